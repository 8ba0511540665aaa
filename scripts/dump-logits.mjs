/**
 * Writes what this engine computes for one image and one chat, so that another implementation can be held against it:
 *
 *   npm run build && node scripts/dump-logits.mjs CHECKPOINT OUT.safetensors
 *   python scripts/check_transformers.py CHECKPOINT OUT.safetensors
 *
 * and with a LoRA adapter:
 *
 *   node scripts/dump-logits.mjs CHECKPOINT OUT.safetensors ADAPTER
 *   python scripts/check_transformers.py CHECKPOINT OUT.safetensors ADAPTER
 *
 * OUT holds input_ids [T], pixel_values [P, 1176], image_grid_thw [3], first (the position of the first logits) and
 * logits [N, V] of the positions from there on, all as float32.
 */

import { openModelFolder } from '../dist/src/engine/adapters/model-folder.js';
import { buildBatch } from '../dist/src/engine/models/qwen2_5_vl/batch.js';
import { processImage } from '../dist/src/engine/models/qwen2_5_vl/image-processor.js';
import { adaptedWeights, wholeWeights } from '../dist/src/engine/models/qwen2_5_vl/open-training-model.js';
import { openProcessor } from '../dist/src/engine/models/qwen2_5_vl/processor.js';
import { logProbGraph } from '../dist/src/engine/models/qwen2_5_vl/training-model.js';
import { Program } from '../dist/src/engine/program.js';
import { openRuntime } from '../dist/src/engine/session/open-runtime.js';
import { writeSafetensors } from '../dist/src/engine/weights/safetensors.js';
import { renderPixels } from '../dist/src/worlds/procedural-birds/render.js';

const [folder, out, adapterFolder] = process.argv.slice(2);
if (!folder || !out) {
  console.error('usage: node scripts/dump-logits.mjs CHECKPOINT OUT.safetensors [ADAPTER]');
  process.exit(2);
}
const runtime = await openRuntime();
const source = {
  provider: 'cpu',
  session: (_key, create) => {
    const { model, options } = create();
    return runtime.createSession(model, options);
  },
};
const { base, adapter } = openModelFolder(folder, adapterFolder);
const processor = await openProcessor(base.dir);
const pixels = await renderPixels({ namespace: 'dataset', seed: 1, species: 17, index: 3 });
const image = processImage({ width: 112, height: 112, data: pixels }, processor.images);
const { inputIds } = processor.encodeChat([{ role: 'user', content: '<image>Which bird is in the image?' }], [image], {
  addGenerationPrompt: true,
});
const answer = processor.encode('<think>Visual analysis: red crown, blue breast.</think>\n<answer>Ruby River</answer>');
const batch = buildBatch(base.config, [{ prefix: inputIds, images: [0], branches: [{ ids: answer }] }], [image]);
const weights = adapter ? adaptedWeights(base, adapter) : wholeWeights(base);
const { graph, logits } = logProbGraph(base.config, batch.visionKind, weights);
const program = await Program.compile(source, graph, { logits }, { key: 'dump' });
const feeds = Object.fromEntries(program.feeds.map(({ name }) => [name, batch.feeds[name] ?? weights.tensor(name)]));
const result = await program.run(feeds);
const tensor = (name, shape, data) => ({
  name,
  shape,
  load: () => ({ dtype: 'float32', shape, data: Float32Array.from(data) }),
});
const ids = [...inputIds, ...answer];
await writeSafetensors(out, [
  tensor('input_ids', [ids.length], ids),
  tensor('pixel_values', [image.pixels.length / 1176, 1176], image.pixels),
  tensor('image_grid_thw', [3], image.grid),
  tensor('first', [1], [inputIds.length - 1]),
  tensor('logits', [...result.logits.shape], result.logits.data),
]);
await runtime.close();
