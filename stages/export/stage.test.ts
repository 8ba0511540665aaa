import { readFileSync } from 'node:fs';
import { cp, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { mergedTensor } from '../../src/engine/adapters/lora.ts';
import { openModelFolder } from '../../src/engine/adapters/model-folder.ts';
import { openCheckpoint, saveCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import { toFloat32 } from '../../src/engine/weights/convert.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import type { ExportOptions } from './options.ts';
import { exportStage } from './stage.ts';

const BASE = fixture('qwen2_5_vl', 'tiny_tied');
const ADAPTER = fixture('qwen2_5_vl', 'tiny_tied_lora');
const NAME = 'model.layers.1.self_attn.q_proj.weight';

async function exported(options: Partial<ExportOptions>) {
  const output = await temporaryFolder();
  using context = fakeContext(exportStage, { model: fakeArtifact('checkpoint', BASE), ...options });
  await exportStage.run(context);
  await cp(context.outputs['model']!, output, { recursive: true });
  return output;
}

const adapter = fakeArtifact('adapter', ADAPTER);

describe('export', () => {
  it('merges an adapter and copies what stands beside the weights', async () => {
    const output = await exported({ adapter });
    const { base, adapter: given } = openModelFolder(BASE, ADAPTER);
    const find = (name: string) => given!.find(name) ?? base.read(name);
    const merged = openCheckpoint(output);
    expect(merged.readFloat32(NAME)).toEqual(mergedTensor(NAME, find, given!.layers));
    expect(merged.readFloat32(NAME).data).not.toEqual(base.readFloat32(NAME).data);
    expect(merged.readFloat32('model.norm.weight')).toEqual(base.readFloat32('model.norm.weight'));
    expect(await readdir(output)).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
  });

  it('writes the element type and file sizes asked for', async () => {
    const output = await exported({ adapter, dtype: 'bfloat16', maxShardBytes: 100_000 });
    const shards = (await readdir(output)).filter((name) => /^model-\d+-of-\d+\.safetensors$/.test(name));
    expect(shards.length).toBeGreaterThan(3);
    const { base, adapter: given } = openModelFolder(BASE, ADAPTER);
    const want = toFloat32(mergedTensor(NAME, (name) => given!.find(name) ?? base.read(name), given!.layers));
    const got = openCheckpoint(output);
    expect(got.locate(NAME).dtype).toBe('BF16');
    got.readFloat32(NAME).data.forEach((value, i) => {
      expect(Math.abs(value - want[i]!)).toBeLessThanOrEqual(Math.abs(want[i]!) / 256);
    });
    expect(JSON.parse(await readFile(path.join(output, 'config.json'), 'utf8'))).toMatchObject({ dtype: 'bfloat16' });
  });

  it('keeps the element type of the model unless told', async () => {
    const folder = await temporaryFolder();
    const base = openCheckpoint(BASE);
    await saveCheckpoint(folder, {
      config: base.rawConfig,
      tensors: base.parameters.map(({ name, shape }) => ({ name, shape, load: () => base.read(name) })),
      dtype: 'float16',
    });
    const output = await exported({ model: fakeArtifact('checkpoint', folder), adapter });
    expect(openCheckpoint(output).locate(NAME).dtype).toBe('F16');
  });

  it('refuses float16 for weights beyond its range', async () => {
    const folder = await temporaryFolder();
    const base = openCheckpoint(BASE);
    await saveCheckpoint(folder, {
      config: base.rawConfig,
      tensors: base.parameters.map(({ name, shape }) => ({
        name,
        shape,
        load() {
          const tensor = base.readFloat32(name);
          if (name === NAME) tensor.data[3] = -70_000;
          return tensor;
        },
      })),
    });
    const model = fakeArtifact('checkpoint', folder);
    await expect(exported({ model, dtype: 'float16' })).rejects.toThrow(`${NAME} has a weight of -70000`);
    await exported({ model, dtype: 'bfloat16' });
  });

  it('joins model and adapter without touching either', async () => {
    const output = await exported({ adapter, merge: false, adapterKeys: 'legacy' });
    const joined = openModelFolder(output);
    const [name] = [...joined.adapter!.layers.keys()];
    const given = openModelFolder(BASE, ADAPTER).adapter!;
    expect(joined.adapter!.layers).toEqual(given.layers);
    expect(joined.adapter!.find(`${name}.lora_A.weight`)).toEqual(given.find(`${name}.lora_A.weight`));
    const weights = (dir: string) => readFileSync(path.join(dir, 'model.safetensors'));
    expect(weights(path.join(output, 'base')).equals(weights(BASE))).toBe(true);
    // The joined folder is a model like any other.
    const merged = await exported({ model: fakeArtifact('checkpoint', output) });
    expect(weights(merged).equals(weights(await exported({ adapter })))).toBe(true);
  });

  it('refuses a second adapter for a model that has one', async () => {
    const joined = fakeArtifact('checkpoint', await exported({ adapter, merge: false }));
    await expect(exported({ model: joined, adapter })).rejects.toMatchObject({
      code: 'ADAPTER_UNREADABLE',
      message: expect.stringContaining('has an adapter already'),
    });
  });

  it('says that there is no adapter to keep', async () => {
    await expect(exported({ merge: false })).rejects.toMatchObject({ code: 'ADAPTER_UNREADABLE' });
  });
});
