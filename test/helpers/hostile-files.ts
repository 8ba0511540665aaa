/** Damaged and hostile files by number: the same number gives the same file. */
import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { RandomStream } from '../../src/engine/random.ts';

const TENSORS = {
  'model.a': { dtype: 'F32', shape: [4, 3], data_offsets: [0, 48] },
  'model.b': { dtype: 'BF16', shape: [5], data_offsets: [48, 58] },
  'model.c': { dtype: 'I64', shape: [], data_offsets: [58, 66] },
  'model.empty': { dtype: 'F16', shape: [0, 7], data_offsets: [66, 66] },
} as const;
const DATA_BYTES = 66;

const NUMBERS = [-1, -48, 0.5, 1e308, 2 ** 53, 2 ** 64, 65, 67, 0, 4e9, null, '48', [], {}, true];
const DTYPES = ['F64', 'U8', 'F8_E4M3', 'f32', 'Q4', '', null, 32, ['F32'], '__proto__', 'constructor'];
const NAMES = [
  '__proto__',
  '__metadata__',
  'constructor',
  '',
  'model.a',
  '\ud800',
  'x'.repeat(10_000),
  '../../etc/passwd',
];

/** A safetensors file whose header is changed in one to four ways; rarely it is still valid. */
export function hostileSafetensors(number: number): Uint8Array {
  const stream = new RandomStream('hostile safetensors', number);
  const header: Record<string, unknown> = structuredClone({ __metadata__: { format: 'pt' }, ...TENSORS });
  const entry = () =>
    (header[stream.choice(Object.keys(TENSORS))] ?? {}) as { shape: unknown[]; data_offsets: unknown[] };
  const changes: readonly (() => void)[] = [
    () => Object.assign(entry(), { dtype: stream.choice(DTYPES) }),
    () => Object.assign(entry(), { shape: [stream.choice(NUMBERS), stream.choice(NUMBERS)] }),
    () => Object.assign(entry(), { shape: new Array(stream.integer(2000)).fill(stream.choice([0, 1, 65536])) }),
    () => Object.assign(entry(), { data_offsets: [stream.choice(NUMBERS), stream.choice(NUMBERS)] }),
    () => Object.assign(entry(), { data_offsets: [stream.integer(70), stream.integer(70)] }),
    () => Object.assign(entry(), { data_offsets: stream.choice([[], [0], [0, 48, 96], null, 'x', { 0: 0, 1: 48 }]) }),
    () => {
      header[stream.choice(NAMES)] = stream.choice([entry(), null, 1, [], 'x', { dtype: 'F32' }]);
    },
    () => {
      delete header[stream.choice(Object.keys(header))];
    },
    () => {
      header['__metadata__'] = stream.choice([null, [], { n: 1 }, { deep: { deeper: {} } }, 'x']);
    },
  ];
  for (let i = stream.integer(4); i >= 0; i--) if (stream.uniform() < 0.7) stream.choice(changes)();
  let text = JSON.stringify(header);
  const textChanges: readonly (() => string)[] = [
    () => text.replace('"model.b"', '"model.a"'),
    () => text.replace('"shape"', '"dtype"'),
    () => text.slice(0, stream.integer(text.length)),
    () => `${text}${stream.choice([' ', '\u0000', '}', '{}', ','])}`,
    () => `${stream.choice([' ', '[', '\ufeff', '"'])}${text}`,
    () => `{"d":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    () => text.replaceAll(':', stream.choice(['=', '::', ' : '])),
    () => text.replace(/\d+/, stream.choice(['1e999', '-0', '0x10', '1_0', '99999999999999999999', '01'])),
    () => text.replace('"dtype"', '"\\u0064type"'),
  ];
  if (stream.uniform() < 0.4) text = stream.choice(textChanges)();
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + DATA_BYTES);
  bytes.set(json, 8);
  for (let i = 0; i < DATA_BYTES; i++) bytes[8 + json.length + i] = stream.integer(256);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(json.length), true);
  if (stream.uniform() < 0.15) {
    const lengths = [
      0n,
      1n,
      BigInt(json.length + 1),
      BigInt(json.length - 1),
      BigInt(bytes.length),
      100_000_001n,
      2n ** 63n,
      2n ** 64n - 1n,
    ];
    view.setBigUint64(0, stream.choice(lengths), true);
  }
  for (let i = stream.uniform() < 0.3 ? stream.integer(4) : -1; i >= 0; i--) {
    bytes[stream.integer(8 + json.length)] = stream.integer(256);
  }
  return stream.uniform() < 0.1 ? bytes.subarray(0, stream.integer(bytes.length)) : bytes;
}

type Format = 'png' | 'jpeg' | 'webp' | 'gif' | 'tiff' | 'avif';
const FORMATS: readonly Format[] = ['png', 'jpeg', 'webp', 'gif', 'tiff', 'avif'];
const originals = new Map<string, Promise<Buffer>>();

function original(format: Format, width: number, height: number): Promise<Buffer> {
  const key = `${format}:${width}x${height}`;
  let made = originals.get(key);
  if (!made) {
    const stream = new RandomStream(key);
    const pixels = Uint8Array.from({ length: width * height * 3 }, () => stream.integer(256));
    made = sharp(pixels, { raw: { width, height, channels: 3 } })
      .toFormat(format)
      .toBuffer();
    originals.set(key, made);
  }
  return made;
}

/** A damaged image, or one that says or holds far more pixels than its bytes suggest. */
export async function hostileImage(number: number): Promise<Uint8Array> {
  const stream = new RandomStream('hostile image', number);
  if (stream.uniform() < 0.15) return bomb(stream);
  const bytes = Uint8Array.from(
    await original(stream.choice(FORMATS), 8 + 8 * stream.integer(5), 8 + 8 * stream.integer(5)),
  );
  switch (stream.integer(4)) {
    case 0:
      return bytes.subarray(0, stream.integer(bytes.length));
    case 1: {
      const start = stream.integer(bytes.length);
      return bytes.fill(stream.integer(256), start, start + stream.integer(64));
    }
    case 2: {
      // The first bytes say the size, the number of channels, the palette and so on.
      for (let i = 0; i < 4; i++) bytes[stream.integer(Math.min(bytes.length, 64))] = stream.integer(256);
      return bytes;
    }
    default: {
      for (let i = stream.integer(30); i >= 0; i--) bytes[stream.integer(bytes.length)] = stream.integer(256);
      return bytes;
    }
  }
}

async function bomb(stream: RandomStream): Promise<Uint8Array> {
  const side = stream.choice([4400, 5000, 6300, 7000, 12_000, 30_000, 65_535, 2_000_000_000]);
  switch (stream.integer(4)) {
    case 0:
      return blankPng(side, stream.choice([1, side]), stream.choice([3, 4]));
    case 1:
      return overstatedJpeg(Math.min(side, 65_535), stream.integer(4) === 0);
    case 2: {
      const laughs = Array.from({ length: 9 }, (_, i) => `<!ENTITY l${i + 1} "${`&l${i};`.repeat(10)}">`).join('');
      return new TextEncoder().encode(
        `<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY l0 "ha">${laughs}]><svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}"><text>&l9;</text></svg>`,
      );
    }
    default:
      return new TextEncoder().encode(
        `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}"><rect width="100%" height="100%"/></svg>`,
      );
  }
}

/** A small PNG of one colour: valid up to 7000 pixels on a side, with hardly any data above. */
async function blankPng(width: number, height: number, channels: 3 | 4): Promise<Uint8Array> {
  if (width <= 7000)
    return sharp({ create: { width, height, channels, background: 'white' } })
      .png()
      .toBuffer();
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, channels === 3 ? 2 : 6, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    pngChunk('IHDR', header),
    pngChunk('IDAT', deflateSync(Buffer.alloc(1_000_000))),
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
}

/** A small JPEG that says it is larger; of a progressive one, decoders keep the coefficients of all that it says. */
async function overstatedJpeg(side: number, progressive: boolean): Promise<Uint8Array> {
  const bytes = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'white' } })
    .jpeg({ progressive })
    .toBuffer();
  const frame = bytes.indexOf(Buffer.from([0xff, progressive ? 0xc2 : 0xc0]));
  bytes.writeUInt16BE(side, frame + 5);
  bytes.writeUInt16BE(side, frame + 7);
  return bytes;
}

function pngChunk(type: string, data: Buffer): Buffer {
  const chunk = Buffer.alloc(12 + data.length);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write(type, 4, 'latin1');
  data.copy(chunk, 8);
  let crc = 0xffffffff;
  for (let i = 4; i < 8 + data.length; i++) {
    crc ^= chunk[i]!;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  chunk.writeUInt32BE((crc ^ 0xffffffff) >>> 0, 8 + data.length);
  return chunk;
}

/** Peak memory of the process above what it was at the start, in bytes; sampled at every call of `sample`. */
export class MemoryWatch {
  readonly #start = process.memoryUsage().rss;
  #peak = this.#start;

  sample(): void {
    this.#peak = Math.max(this.#peak, process.memoryUsage().rss);
  }

  get growthBytes(): number {
    this.sample();
    return this.#peak - this.#start;
  }
}
