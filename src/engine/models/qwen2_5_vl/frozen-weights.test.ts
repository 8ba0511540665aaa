import { describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { temporaryFolder } from '../../../../test/helpers/temporary-folder.ts';
import { openCheckpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import { ModelWeights } from '../../weights/model-weights.ts';
import { frozenWeights } from './frozen-weights.ts';

async function inBfloat16() {
  const { rawConfig: config, parameters, readFloat32 } = openCheckpoint(fixture('qwen2_5_vl', 'tiny_tied'));
  const folder = await temporaryFolder();
  const tensors = parameters.map(({ name, shape }) => ({ name, shape, load: () => readFloat32(name) }));
  await saveCheckpoint(folder, { config, tensors, dtype: 'bfloat16' });
  return openCheckpoint(folder);
}

describe('frozenWeights()', () => {
  it('widens the weights of a large model for WebGPU, and leaves them as stored for others', async () => {
    const stored = await inBfloat16();
    const names = stored.parameters.map(({ name }) => name);
    const [cpu, cuda, webGpu] = (['cpu', 'cuda', 'webgpu'] as const).map((provider) =>
      ModelWeights.frozen(frozenWeights(stored, names, 'layered', provider)),
    ) as [ModelWeights, ModelWeights, ModelWeights];
    for (const name of names) {
      expect([cpu, cuda, webGpu].map((weights) => weights.dtypeOf(name))).toEqual(['bfloat16', 'bfloat16', 'float32']);
      expect(webGpu.tensor(name)).toEqual(stored.readFloat32(name));
    }
    expect(webGpu.layoutKey).toBe(ModelWeights.frozen(frozenWeights(stored, names, 'whole', 'cpu')).layoutKey);
    expect(webGpu.layoutKey).not.toBe(cpu.layoutKey);
  });
});
