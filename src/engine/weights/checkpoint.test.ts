import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Checkpoint, openCheckpoint, saveCheckpoint } from './checkpoint.ts';
import { openSafetensors, type TensorSource, writeSafetensors } from './safetensors.ts';

const fixture = (path: string) => fileURLToPath(new URL(`../../../test/fixtures/qwen2_5_vl/${path}`, import.meta.url));

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'fr1-checkpoint-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const fresh = () => mkdtempSync(join(root, 'model-'));

/** A copy of the tied fixture with changed tensors. */
async function altered(change: (tensors: TensorSource[]) => TensorSource[]): Promise<string> {
  const dir = fresh();
  cpSync(fixture('tiny_tied/config.json'), join(dir, 'config.json'));
  await writeSafetensors(join(dir, 'model.safetensors'), change(sources(openCheckpoint(fixture('tiny_tied')))));
  return dir;
}

function sources(checkpoint: Checkpoint): TensorSource[] {
  return checkpoint.parameters.map(({ name, shape }) => ({ name, shape, load: () => checkpoint.read(name) }));
}

function zeros(name: string, shape: number[]): TensorSource {
  const size = shape.reduce((a, b) => a * b, 1);
  return { name, shape, load: () => ({ dtype: 'float32', shape, data: new Float32Array(size) }) };
}

describe('openCheckpoint()', () => {
  it('gives weights by canonical name', () => {
    const checkpoint = openCheckpoint(fixture('tiny_tied'));
    expect(checkpoint.config.text.hiddenSize).toBe(64);
    const gain = checkpoint.readFloat32('model.norm.weight');
    expect(gain.shape).toEqual([64]);
    expect(gain.data.reduce((a, b) => a + b) / 64).toBeCloseTo(1, 0);
    const { file, offset, byteLength } = checkpoint.locate('model.norm.weight');
    const bytes = readFileSync(file).subarray(offset, offset + byteLength);
    expect(bytes.equals(Buffer.from(gain.data.buffer))).toBe(true);
    expect(() => checkpoint.read('lm_head.weight')).toThrow(expect.objectContaining({ code: 'TENSOR_UNKNOWN' }));
  });

  it('reads the module-name layout as well', async () => {
    const dir = await altered((tensors) =>
      tensors.map((tensor) => ({
        ...tensor,
        name: tensor.name.startsWith('visual.')
          ? `model.${tensor.name}`
          : tensor.name.replace(/^model\./, 'model.language_model.'),
      })),
    );
    const names = openSafetensors(join(dir, 'model.safetensors')).names;
    expect(names).toContain('model.language_model.norm.weight');
    expect(names).toContain('model.visual.merger.ln_q.weight');
    const checkpoint = openCheckpoint(dir);
    const original = openCheckpoint(fixture('tiny_tied'));
    for (const { name } of checkpoint.parameters) expect(checkpoint.read(name)).toEqual(original.read(name));
  });

  it('ignores a stored output head that is tied, and refuses one with other values', async () => {
    const table = openCheckpoint(fixture('tiny_tied')).read('model.embed_tokens.weight');
    const head = { name: 'lm_head.weight', shape: table.shape, load: () => table };
    const dir = await altered((tensors) => [...tensors, head]);
    expect(openCheckpoint(dir).ignored).toEqual(['lm_head.weight']);
    const other = await altered((tensors) => [...tensors, zeros('lm_head.weight', [320, 64])]);
    expect(() => openCheckpoint(other)).toThrow(/ties the output head .* has other values than model\.embed_tokens/);
  });

  it('lists missing, unexpected, mis-shaped weights together', async () => {
    const dir = await altered((tensors) => [
      ...tensors.filter(({ name }) => name !== 'visual.merger.ln_q.weight' && name !== 'model.norm.weight'),
      zeros('model.norm.weight', [65]),
      zeros('model.layers.9.mlp.up_proj.weight', [128, 64]),
    ]);
    expect(() => openCheckpoint(dir)).toThrow(
      expect.objectContaining({
        code: 'CHECKPOINT_MISMATCH',
        message: [
          `the weights of ${dir} are not those of its config.json:`,
          '  model.norm.weight is [65], expected [64]',
          '  visual.merger.ln_q.weight [32] is missing',
          '  model.layers.9.mlp.up_proj.weight [128, 64] is unexpected',
        ].join('\n'),
      }),
    );
  });

  it('shortens a long list', () => {
    const dir = fresh();
    cpSync(fixture('tiny_tied/model.safetensors'), join(dir, 'model.safetensors'));
    cpSync(fixture('tiny_untied/config.json'), join(dir, 'config.json'));
    expect(() => openCheckpoint(dir)).toThrow(/lm_head\.weight \[256, 48\] is missing/);
    expect(() => openCheckpoint(dir)).toThrow(/\.\.\. and \d+ more like these/);
  });

  it('refuses the same weight under two names', async () => {
    const dir = await altered((tensors) => [...tensors, zeros('model.visual.merger.ln_q.weight', [32])]);
    expect(() => openCheckpoint(dir)).toThrow(/are the same weight/);
  });

  it('names what is missing or broken in the folder', () => {
    const dir = fresh();
    const code = (value: string) => expect.objectContaining({ code: value });
    expect(() => openCheckpoint(join(dir, 'absent'))).toThrow(/no model folder/);
    expect(() => openCheckpoint(dir)).toThrow(/config\.json cannot be read/);
    writeFileSync(join(dir, 'config.json'), '{"a":');
    expect(() => openCheckpoint(dir)).toThrow(/config\.json is not JSON/);
    cpSync(fixture('tiny_tied/config.json'), join(dir, 'config.json'));
    expect(() => openCheckpoint(dir)).toThrow(/neither model\.safetensors nor/);
    cpSync(fixture('tiny_tied/model.safetensors'), join(dir, 'model.safetensors'));
    truncateSync(join(dir, 'model.safetensors'), 600_000);
    expect(() => openCheckpoint(dir)).toThrow(code('SAFETENSORS_TRUNCATED'));
  });
});

describe('saveCheckpoint()', () => {
  it.each(['tiny_tied', 'tiny_untied'])('repeats the weights of %s byte by byte', async (name) => {
    const from = openCheckpoint(fixture(name));
    const dir = fresh();
    await saveCheckpoint(dir, { config: from.rawConfig, tensors: sources(from), copyFrom: from.dir });
    expect(readdirSync(dir).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
    for (const file of ['config.json', 'generation_config.json']) {
      expect(JSON.parse(readFileSync(join(dir, file), 'utf8'))).toEqual(
        JSON.parse(readFileSync(join(from.dir, file), 'utf8')),
      );
    }
    expect(readFileSync(join(dir, 'model.safetensors')).equals(readFileSync(join(from.dir, 'model.safetensors')))).toBe(
      true,
    );
  });

  it('splits large weights over files that openCheckpoint() joins again, and says the stored dtype in config.json', async () => {
    const from = openCheckpoint(fixture('tiny_untied'));
    const dir = fresh();
    await saveCheckpoint(dir, {
      config: { ...from.rawConfig, torch_dtype: 'float32' },
      tensors: sources(from),
      dtype: 'bfloat16',
      maxShardBytes: 200_000,
    });
    expect(readdirSync(dir).sort()).toEqual([
      'config.json',
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
      'model.safetensors.index.json',
    ]);
    const config = JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8'));
    expect(config).toMatchObject({ dtype: 'bfloat16', torch_dtype: 'bfloat16' });
    const index = JSON.parse(readFileSync(join(dir, 'model.safetensors.index.json'), 'utf8'));
    const count = from.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
    expect(index.metadata.total_size).toBe(2 * count);
    const again = openCheckpoint(dir);
    for (const { name } of again.parameters) {
      const expected = from.readFloat32(name).data;
      const read = again.readFloat32(name).data;
      const worst = read.findIndex((value, i) => Math.abs(value - expected[i]!) > Math.abs(expected[i]!) / 256);
      expect(worst, name).toBe(-1);
    }
  });

  it('checks the index against the files', async () => {
    const from = openCheckpoint(fixture('tiny_untied'));
    const dir = fresh();
    await saveCheckpoint(dir, { config: from.rawConfig, tensors: sources(from), maxShardBytes: 500_000 });
    const indexPath = join(dir, 'model.safetensors.index.json');
    const index = JSON.parse(readFileSync(indexPath, 'utf8'));
    const [first, second] = [...new Set(Object.values(index.weight_map as Record<string, string>))] as [string, string];

    const swapped = { ...index, weight_map: { ...index.weight_map, 'lm_head.weight': second } };
    writeFileSync(indexPath, JSON.stringify(swapped));
    expect(() => openCheckpoint(dir)).toThrow(`lm_head.weight is not in ${second}`);
    expect(() => openCheckpoint(dir)).toThrow(`lm_head.weight is in ${first}, but not listed there`);

    writeFileSync(indexPath, JSON.stringify({ weight_map: { 'lm_head.weight': 'gone.safetensors' } }));
    expect(() => openCheckpoint(dir)).toThrow(
      /lacks files that model\.safetensors\.index\.json lists:\n {2}gone\.safetensors/,
    );
    writeFileSync(indexPath, JSON.stringify({ weight_map: { 'lm_head.weight': '../model.safetensors' } }));
    expect(() => openCheckpoint(dir)).toThrow(/no file name of this folder/);

    writeFileSync(indexPath, JSON.stringify(index));
    renameSync(join(dir, first), join(dir, 'elsewhere'));
    expect(() => openCheckpoint(dir)).toThrow(expect.objectContaining({ code: 'CHECKPOINT_UNREADABLE' }));
    expect(() => openCheckpoint(dir)).toThrow(first);
  });

  it('removes weight files of an earlier save', async () => {
    const from = openCheckpoint(fixture('tiny_untied'));
    const dir = fresh();
    await saveCheckpoint(dir, { config: from.rawConfig, tensors: sources(from), maxShardBytes: 500_000 });
    await saveCheckpoint(dir, { config: from.rawConfig, tensors: sources(from) });
    expect(readdirSync(dir).sort()).toEqual(['config.json', 'model.safetensors']);
    expect(openCheckpoint(dir).parameters).toHaveLength(from.parameters.length);
  });

  it('refuses tensors that are not those of the config, before writing anything', async () => {
    const from = openCheckpoint(fixture('tiny_tied'));
    const dir = join(root, 'never');
    await expect(
      saveCheckpoint(dir, { config: from.rawConfig, tensors: sources(from).slice(1) }),
    ).rejects.toMatchObject({ code: 'CHECKPOINT_MISMATCH' });
    expect(existsSync(dir)).toBe(false);
  });
});
