/**
 * Training curves in TensorBoard's event files, one folder per stage, so that `tensorboard --logdir .fr1/runs` shows
 * them. A file is a sequence of records: length (uint64), its masked CRC-32C, an Event message, the masked CRC of that.
 *
 * @see tensorflow/core/util/event.proto (wall_time 1, step 2, file_version 3, summary 5), summary.proto (value 1: tag 1,
 * simple_value 2), tensorflow/core/lib/io/record_writer.h
 */
import { appendFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import type { RunEvent } from '../run/events.ts';

/** Writes below `directory/<stage>/`; a stage without curves or metrics leaves nothing. */
export class TensorBoardWriter {
  readonly #directory: string;
  readonly #files = new Map<string, string>();
  readonly #waiting = new Map<string, Buffer[]>();
  #timer: NodeJS.Timeout | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  onEvent(event: RunEvent): void {
    if (event.type === 'stage-metric') this.#add(event.stage, event.time, event.step, event.values);
    else if (event.type === 'stage-finished') {
      const results = Object.entries(event.metrics).map(([name, { value }]) => [`result/${name}`, value]);
      if (results.length > 0) this.#add(event.stage, event.time, 0, Object.fromEntries(results));
    }
  }

  /** Writes what is still waiting. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [file, records] of this.#waiting) appendFileSync(file, Buffer.concat(records));
    this.#waiting.clear();
  }

  #add(stage: string, time: string, step: number, values: Readonly<Record<string, number>>): void {
    const seconds = Date.parse(time) / 1000;
    const file = this.#fileOf(stage, seconds);
    const records = this.#waiting.get(file) ?? [];
    records.push(recordOf(scalarsEvent(seconds, step, values)));
    this.#waiting.set(file, records);
    // A step may take milliseconds: a write per second is enough for who watches.
    this.#timer ??= setTimeout(() => this.close(), 1_000).unref();
  }

  #fileOf(stage: string, seconds: number): string {
    const known = this.#files.get(stage);
    if (known !== undefined) return known;
    const folder = path.join(this.#directory, stage.replace(/[^A-Za-z0-9._-]/g, '_'));
    mkdirSync(folder, { recursive: true });
    const file = path.join(folder, `events.out.tfevents.${Math.floor(seconds)}.fr1`);
    this.#waiting.set(file, [recordOf(versionEvent(seconds))]);
    this.#files.set(stage, file);
    return file;
  }
}

function versionEvent(seconds: number): Buffer {
  return Buffer.concat([float64(1, seconds), bytes(3, Buffer.from('brain.Event:2'))]);
}

function scalarsEvent(seconds: number, step: number, values: Readonly<Record<string, number>>): Buffer {
  const summary = Object.entries(values).map(([name, value]) =>
    bytes(1, Buffer.concat([bytes(1, Buffer.from(name)), float32(2, value)])),
  );
  return Buffer.concat([float64(1, seconds), Buffer.from([2 << 3]), varint(step), bytes(5, Buffer.concat(summary))]);
}

// Protocol buffers: a field is its number and wire type, then its value. Numbers below 16 take one byte.

function float64(field: number, value: number): Buffer {
  const buffer = Buffer.alloc(9, (field << 3) | 1);
  buffer.writeDoubleLE(value, 1);
  return buffer;
}

function float32(field: number, value: number): Buffer {
  const buffer = Buffer.alloc(5, (field << 3) | 5);
  buffer.writeFloatLE(value, 1);
  return buffer;
}

function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2]), varint(value.length), value]);
}

/** A whole number that is not negative, seven bits to a byte, the lowest first. */
function varint(value: number): Buffer {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...out, rest]);
    out.push((rest % 128) | 128);
  }
}

/** One framed record. */
export function recordOf(data: Uint8Array): Buffer {
  const record = Buffer.alloc(8 + 4 + data.length + 4);
  record.writeBigUInt64LE(BigInt(data.length), 0);
  record.writeUInt32LE(maskedCrc(record.subarray(0, 8)), 8);
  record.set(data, 12);
  record.writeUInt32LE(maskedCrc(data), 12 + data.length);
  return record;
}

/** CRC-32C, rotated and shifted, as TFRecord wants it. */
function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32 with Castagnoli's polynomial; zlib's has another one. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}
