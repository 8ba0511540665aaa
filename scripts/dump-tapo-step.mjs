/**
 * Does one whole step of TAPO on a small model and writes what went in and what came out, so that an independent
 * implementation can repeat it:
 *
 *   npm run build && node scripts/dump-tapo-step.mjs test/fixtures/qwen2_5_vl/tiny_tied OUT [VARIANT]
 *   python scripts/check_tapo_step.py test/fixtures/qwen2_5_vl/tiny_tied OUT
 *
 * OUT/step.json holds the rollouts (prompts, answers, rewards, images by number), the settings and fr1's figures;
 * OUT/images.safetensors the patches; OUT/after the model after the step. Images differ in size, answers in length; every
 * term of the loss is on, also those that Fine-R1's scripts leave off. Variants:
 *   plain     the default
 *   other     all that `plain` has at its default: a temperature, training through the negative image, a token mask, means over four
 *             answers each, and two passes
 *   layout    positive and negative images, of other shapes with as many patches, in the layout of the anchor (quirk 23)
 *   halved    no positive image: groups of half the answers in twice the groups and updates (quirk 22), and `layout`
 */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PLAIN_SAMPLING } from '../dist/src/engine/generate/plain-sampling.js';
import { createGenerator } from '../dist/src/engine/models/qwen2_5_vl/generator.js';
import { TrainingModel } from '../dist/src/engine/models/qwen2_5_vl/training-model.js';
import { AdamW } from '../dist/src/engine/optim/adamw.js';
import { RandomStream } from '../dist/src/engine/random.js';
import { trainTapo } from '../dist/src/engine/recipes/tapo.js';
import { openRuntime } from '../dist/src/engine/session/open-runtime.js';
import { openCheckpoint, saveCheckpoint } from '../dist/src/engine/weights/checkpoint.js';
import { writeSafetensors } from '../dist/src/engine/weights/safetensors.js';
import { groupNormalisedAdvantages } from '../dist/src/methods/advantages.js';
import { keptTokens } from '../dist/src/methods/tapo-loss.js';
import { groupingOf } from '../dist/stages/tapo/grouping.js';
import { resolveSettings } from '../dist/stages/tapo/settings.js';

const [folder, out, variant = 'plain'] = process.argv.slice(2);
if (!folder || !out || !['plain', 'other', 'layout', 'halved'].includes(variant)) {
  console.error('usage: node scripts/dump-tapo-step.mjs CHECKPOINT OUT [plain | other | layout | halved]');
  process.exit(2);
}
const SEED = 3;
/** Large, so that weights whose gradient is rounding noise (biases of keys) do not move by whole learning rates. */
const EPSILON = 1e-3;
const IS_OTHER = variant === 'other';
const HAS_POSITIVE = variant !== 'halved';
const VIEW_LAYOUT = variant === 'layout' || variant === 'halved' ? 'anchor' : 'own';
const TEMPERATURE = IS_OTHER ? 0.7 : 1;
const TOP_SHARE = IS_OTHER ? 0.4 : 1;
const PASSES = IS_OTHER ? 2 : 1;
const ANSWERS_PER_MEAN = IS_OTHER ? 4 : null;
/** What is asked for; a halved step makes other groups of it. */
const ASKED = HAS_POSITIVE
  ? { groupsPerStep: 4, rollouts: 3, updatesPerStep: 3 }
  : { groupsPerStep: 3, rollouts: 4, updatesPerStep: 2 };
const views = { positive: HAS_POSITIVE ? 'same-class' : 'none', negative: 'other-class' };
const options = { preset: 'tapo', set: 'reference', views, imitation: null, ...ASKED };
const grouping = groupingOf(options, resolveSettings(options));
const UPDATES = grouping.updatesPerStep;
const LOSS = {
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 3,
  negativeKl: { coefficient: 0.2, estimator: 'k3', isMasked: IS_OTHER },
  negativeBranch: IS_OTHER ? 'trained' : 'fed',
  negativeEntropy: { coefficient: 0.03 },
  ownEntropy: { coefficient: 0.03 },
  referenceKl: { coefficient: 0.1, estimator: 'k3' },
  imitation: { coefficient: 0.05 },
};

const runtime = await openRuntime({ threads: 1 });
const source = {
  provider: 'cpu',
  session: (_key, create) => {
    const { model, options } = create();
    return runtime.createSession(model, options);
  },
};
const checkpoint = openCheckpoint(folder);
const { config } = checkpoint;
const open = () => {
  const model = new TrainingModel(source, config, undefined, undefined, TEMPERATURE);
  for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
  return model;
};
const model = open();
const reference = open();
const optimizer = await AdamW.create(source, model.store, { weightDecay: 0.01, epsilon: EPSILON });
const generator = createGenerator(source, config, model.weights);

/** Pictures of noise in three shapes; those of an anchor's layout have 24 patches each. */
const SHAPES =
  VIEW_LAYOUT === 'own'
    ? [
        [1, 4, 4],
        [1, 4, 6],
        [1, 8, 4],
      ]
    : [
        [1, 4, 6],
        [1, 6, 4],
        [1, 12, 2],
      ];
const groups = grouping.groupsPerStep;
const images = Array.from({ length: 3 * groups }, (_, i) => {
  const stream = new RandomStream('picture', i);
  const grid = SHAPES[i % 3];
  return { grid, pixels: Float32Array.from({ length: grid[1] * grid[2] * 1176 }, () => stream.normal()) };
});
const promptAbout = (image, words) => {
  const units = (images[image].grid[1] * images[image].grid[2]) / 4;
  const ids = [
    5,
    config.visionStartTokenId,
    ...new Array(units).fill(config.imageTokenId),
    config.visionEndTokenId,
    ...words,
  ];
  return { inputIds: Int32Array.from(ids), images: [images[image]], image };
};
const question = (index) => {
  const words = [20 + index, 9, 10 + index];
  return {
    id: `q${index}`,
    anchor: promptAbout(3 * index, words),
    positive: HAS_POSITIVE ? promptAbout(3 * index + 1, words) : null,
    negative: promptAbout(3 * index + 2, words),
  };
};
let drawn = [];
let figures;
await trainTapo(
  model,
  optimizer,
  generator,
  {
    size: groups,
    question: async (index) => question(index),
    reward: (_question, ids) => {
      const accuracy = ids[0] < 150 ? 1 : 0;
      const format = ids.length % 2;
      return { accuracy, format, overall: 0.9 * accuracy + 0.1 * format };
    },
    advantages: (all) =>
      all.map(({ rewards }) =>
        groupNormalisedAdvantages(
          rewards,
          rewards.map(() => 0),
        ),
      ),
    informative: (accuracies) => accuracies.map((_, i) => i),
    negativeKlMask: (own, negative) => keptTokens(own, negative, { estimator: 'k3', topShare: TOP_SHARE }),
  },
  {
    seed: SEED,
    totalSteps: 1,
    groupsPerStep: groups,
    rollouts: ASKED.rollouts,
    groupSize: grouping.answersPerGroup,
    sampling: {
      maxNewTokens: 9,
      ...PLAIN_SAMPLING,
      temperature: TEMPERATURE,
      stopTokenIds: Array.from({ length: 50 }, (_, i) => 200 + i),
      // torch gives the padding token's row of the input embeddings no gradient, whatever answers say.
      bannedTokenIds: [config.imageTokenId, checkpoint.rawConfig.text_config.pad_token_id],
    },
    sharedNoise: false,
    maxDraws: 1,
    updatesPerStep: UPDATES,
    passes: PASSES,
    viewLayout: VIEW_LAYOUT,
    loss: LOSS,
    lossNormalisation: ANSWERS_PER_MEAN === null ? 'step' : 'micro',
    ...(ANSWERS_PER_MEAN !== null && { answersPerMean: ANSWERS_PER_MEAN }),
    learningRate: 0.01,
    schedule: { kind: 'constant' },
    zeroFirstStep: false,
    maxGradNorm: 1,
    microBatchTokens: 150,
    saveEvery: 100,
    stateDir: mkdtempSync(path.join(tmpdir(), 'fr1-step-')),
  },
  {
    onStep: (report) => {
      drawn = report.drawn;
      figures = report.update;
    },
    onWarning: console.warn,
  },
  reference,
);

// The groups as the recipe cuts them into updates.
const shuffled = new RandomStream(SEED, 'tapo-updates', 0).shuffled(drawn);
const parts = Array.from({ length: UPDATES }, (_, i) =>
  shuffled.slice(Math.floor((i * groups) / UPDATES), Math.floor(((i + 1) * groups) / UPDATES)),
);
const plain = (prompt) => prompt && { ids: [...prompt.inputIds], image: prompt.image };
mkdirSync(out, { recursive: true });
const step = {
  loss: LOSS,
  temperature: TEMPERATURE,
  topShare: TOP_SHARE,
  passes: PASSES,
  answersPerMean: ANSWERS_PER_MEAN,
  viewLayout: VIEW_LAYOUT,
  hasPositive: HAS_POSITIVE,
  asked: ASKED,
  learningRate: 0.01,
  weightDecay: 0.01,
  epsilon: EPSILON,
  maxGradNorm: 1,
  grids: images.map(({ grid }) => grid),
  updates: parts.map((part) =>
    part.map(({ question: { anchor, positive, negative }, rollouts }) => ({
      prompts: { anchor: plain(anchor), positive: plain(positive), negative: plain(negative) },
      rollouts: rollouts.map(({ view, tokenIds, score }) => ({ view, tokenIds, score })),
    })),
  ),
  figures,
};
writeFileSync(path.join(out, 'step.json'), `${JSON.stringify(step, null, 1)}\n`);
await writeSafetensors(
  path.join(out, 'images.safetensors'),
  images.map(({ pixels }, i) => {
    const shape = [pixels.length / 1176, 1176];
    return { name: `image_${i}`, shape, load: () => ({ dtype: 'float32', shape, data: pixels }) };
  }),
);
await saveCheckpoint(path.join(out, 'after'), {
  config: checkpoint.rawConfig,
  tensors: checkpoint.parameters.map(({ name, shape }) => ({ name, shape, load: () => model.store.tensor(name) })),
  copyFrom: folder,
});
console.log(JSON.stringify(figures, null, 2));
await runtime.close();
