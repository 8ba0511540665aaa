/** Pre-training: samples are drawn and tokenised while the previous update computes; none is stored, and each is seen once. */
import { join } from 'node:path';
import { type Batch, buildBatch, type Row } from '../../src/engine/models/qwen2_5_vl/batch.ts';
import { parseConfig, type Qwen25VLConfig } from '../../src/engine/models/qwen2_5_vl/config.ts';
import { imageGrid, processImage } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { initialiseWeights } from '../../src/engine/models/qwen2_5_vl/initialise.ts';
import { openProcessor, type Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { rawConfig } from '../../src/engine/models/qwen2_5_vl/raw-config.ts';
import { TrainingModel } from '../../src/engine/models/qwen2_5_vl/training-model.ts';
import type { ImageGrid } from '../../src/engine/models/qwen2_5_vl/vision-layout.ts';
import { AdamW } from '../../src/engine/optim/adamw.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { trainSupervised } from '../../src/engine/recipes/supervised.ts';
import { saveCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import type { StageContext, StageResult } from '../../src/run/stage-api.ts';
import { writeJson } from '../../src/tokenizer-training/tokenizer-files.ts';
import { ATTRIBUTES } from '../../src/worlds/procedural-birds/attributes.ts';
import { type BaseSample, baseMessages, baseSample } from '../../src/worlds/procedural-birds/corpus.ts';
import { IMAGE_SIDE } from '../../src/worlds/procedural-birds/draw.ts';
import {
  SPECIAL_TOKEN_IDS,
  VOCABULARY_SIZE,
  writeTinyProcessorFiles,
} from '../../src/worlds/procedural-birds/processor-files.ts';
import { renderPixels } from '../../src/worlds/procedural-birds/render.ts';
import { traitsOf } from '../../src/worlds/procedural-birds/species.ts';
import { BASE_SPECIES } from '../../src/worlds/procedural-birds/split.ts';
import { requireStageMemory } from '../memory.ts';
import { PRETRAIN_KNOBS, pretrainPlan } from './memory.ts';
import type { PretrainOptions } from './options.ts';

/** Images on which perception is measured after training. */
const PROBES = 512;
const PROBED_AT_ONCE = 128;
/** Samples among which the longest is looked for, to tell how much memory is needed. */
const MEASURED = 2048;

export async function runPretrain(context: StageContext<PretrainOptions>): Promise<StageResult> {
  const { options, state, seed, signal } = context;
  const config = makeConfig(options.architecture);
  const folder = join(state, 'processor');
  await writeTinyProcessorFiles(folder);
  await writeJson(join(folder, 'config.json'), config);
  const processor = await openProcessor(folder);
  const source = sourceOfLease(context.lease);
  const encoder = new PieceEncoder(processor);
  if (!source.memory) {
    const grid = imageGrid(IMAGE_SIDE, IMAGE_SIDE, processor.images);
    const tokens = imageTokens(grid, processor.config);
    const rows = Array.from({ length: MEASURED }, (_, i) => encoder.row(baseMessages(seed, i).messages, 0, tokens));
    const probes = BASE_SPECIES.map((species) => probeRow(species, 0, encoder));
    const plan = pretrainPlan(processor.config, { rows, probes }, grid, { ...options, probed: PROBED_AT_ONCE });
    requireStageMemory(context, 'this training', plan, PRETRAIN_KNOBS);
  }
  const model = new TrainingModel(source, parseConfig(config));
  initialiseWeights(model.store, model.config, seed);
  const optimizer = await AdamW.create(source, model.store, {
    betas: [0.9, 0.98],
    weightDecay: options.weightDecay,
  });
  const totalSteps = Math.max(1, Math.floor(options.images / options.batchSize));
  context.log(`${model.store.flat.length} weights, ${totalSteps} updates of ${options.batchSize} images`);
  let loss = Number.NaN;
  await trainSupervised(model, optimizer, (step) => stepData(step, options, seed, encoder), {
    seed,
    totalSteps,
    learningRate: options.learningRate,
    schedule: { kind: 'cosine', warmupSteps: Math.min(options.warmupSteps, totalSteps) },
    maxGradNorm: options.maxGradNorm,
    lossNormalisation: 'step',
    saveEvery: options.saveEvery,
    stateDir: state,
    signal,
    onResume: (steps) => context.log(`continuing after ${steps} of ${totalSteps} updates`),
    onStep: (report) => {
      loss = report.smoothedLoss;
      context.progress({ done: report.step, total: totalSteps, unit: 'updates', note: `loss ${loss.toFixed(3)}` });
      context.metric(report.step, {
        loss: report.loss,
        gradNorm: report.gradNorm,
        learningRate: report.learningRate,
      });
    },
  });
  const accuracies = await probe(model, encoder, context);
  await model.store.pull();
  await saveCheckpoint(context.outputs['model']!, {
    config,
    tensors: model.store.parameters.map(({ name, shape }) => ({ name, shape, load: () => model.store.tensor(name) })),
    dtype: options.dtype,
    copyFrom: folder,
  });
  await model.release();
  await optimizer.release();
  return {
    metrics: {
      loss: { value: loss },
      ...Object.fromEntries(accuracies.map((value, i) => [`${ATTRIBUTES[i]!.key}_accuracy`, { value, n: PROBES }])),
    },
  };
}

function imageTokens([, height, width]: ImageGrid, { vision }: Qwen25VLConfig): number {
  return (height * width) / vision.spatialMergeSize ** 2;
}

/** The vision tower's windows are half as wide as the images. */
function makeConfig(sizes: PretrainOptions['architecture']): Record<string, unknown> {
  return rawConfig(
    { ...sizes, windowSize: IMAGE_SIDE / 2, vocabularySize: VOCABULARY_SIZE },
    {
      bos: SPECIAL_TOKEN_IDS['<|endoftext|>'],
      eos: SPECIAL_TOKEN_IDS['<|im_end|>'],
      pad: SPECIAL_TOKEN_IDS['<|endoftext|>'],
      visionStart: SPECIAL_TOKEN_IDS['<|vision_start|>'],
      visionEnd: SPECIAL_TOKEN_IDS['<|vision_end|>'],
      image: SPECIAL_TOKEN_IDS['<|image_pad|>'],
      video: SPECIAL_TOKEN_IDS['<|video_pad|>'],
    },
  );
}

/** Tokenises the pieces between special tokens once each: chats of this world repeat them. */
class PieceEncoder {
  readonly processor: Processor;
  readonly #known = new Map<string, Int32Array>();

  constructor(processor: Processor) {
    this.processor = processor;
  }

  get config(): Qwen25VLConfig {
    return this.processor.config;
  }

  encode(text: string): Int32Array {
    let ids = this.#known.get(text);
    if (!ids) {
      ids = this.processor.encode(text);
      this.#known.set(text, ids);
    }
    return ids;
  }

  /** Everything before the first answer is the prefix; answers and their <|im_end|> are targets. */
  row(messages: BaseSample['messages'], image: number, imageTokens: number): Row {
    const prefix: number[] = [];
    const ids: number[] = [];
    const isTarget: number[] = [];
    let to = prefix;
    const push = (tokens: Iterable<number>, target: 0 | 1) => {
      for (const token of tokens) {
        to.push(token);
        if (to === ids) isTarget.push(target);
      }
    };
    const { config } = this;
    for (const { role, content } of messages) {
      push(this.encode(`<|im_start|>${role}\n`), 0);
      if (role === 'assistant') {
        to = ids;
        push(this.encode(content), 1);
        push(this.encode('<|im_end|>'), 1);
        push(this.encode('\n'), 0);
        continue;
      }
      const text = content.replace('<image>', '');
      if (text !== content) {
        push(
          [config.visionStartTokenId, ...new Array(imageTokens).fill(config.imageTokenId), config.visionEndTokenId],
          0,
        );
      }
      push(this.encode(text), 0);
      push(this.encode('<|im_end|>\n'), 0);
    }
    return { prefix, images: prefix.includes(config.imageTokenId) ? [image] : [], branches: [{ ids, isTarget }] };
  }

  /** Tokens of all texts. */
  length(messages: BaseSample['messages']): number {
    return messages.reduce((sum, { content }) => sum + this.encode(content).length, 0);
  }

  image(pixels: Uint8Array) {
    return processImage({ width: IMAGE_SIDE, height: IMAGE_SIDE, data: pixels }, this.processor.images);
  }

  batch(samples: readonly BaseSample[]): Batch {
    const images = samples.map((sample) => this.image(sample.pixels));
    const tokens = imageTokens(images[0]!.grid, this.config);
    return buildBatch(
      this.config,
      samples.map((sample, i) => this.row(sample.messages, i, tokens)),
      images,
    );
  }
}

/** The samples of an update, sorted by length so that micro-batches carry little padding. */
async function stepData(step: number, options: PretrainOptions, seed: number, encoder: PieceEncoder): Promise<Batch[]> {
  const samples = await Promise.all(
    Array.from({ length: options.batchSize }, (_, i) => baseSample(seed, step * options.batchSize + i)),
  );
  const lengths = new Map(samples.map((sample) => [sample, encoder.length(sample.messages)]));
  samples.sort((a, b) => lengths.get(a)! - lengths.get(b)!);
  const batches: Batch[] = [];
  for (let from = 0; from < samples.length; from += options.microBatchSize) {
    batches.push(encoder.batch(samples.slice(from, from + options.microBatchSize)));
  }
  return batches;
}

/** Share of fresh images on which the right word gets more than half of the probability, attribute by attribute. */
async function probe(
  model: TrainingModel,
  encoder: PieceEncoder,
  context: StageContext<PretrainOptions>,
): Promise<number[]> {
  const hits = ATTRIBUTES.map(() => 0);
  for (let from = 0; from < PROBES; from += PROBED_AT_ONCE) {
    const stream = new RandomStream(context.seed, 'probe', from);
    const species = Array.from({ length: PROBED_AT_ONCE }, () => stream.choice(BASE_SPECIES));
    const images = await Promise.all(
      species.map((of, i) =>
        renderPixels({ namespace: 'base', seed: -1 - context.seed, species: of, index: from + i }),
      ),
    );
    const rows = species.map((of, i) => probeRow(of, i, encoder));
    const logProbs = await model.logProbs(
      buildBatch(
        model.config,
        rows,
        images.map((pixels) => encoder.image(pixels)),
      ),
      context.signal,
    );
    logProbs.forEach((logProb, i) => {
      const k = i % ATTRIBUTES.length;
      if (logProb > Math.log(0.5)) hits[k] = hits[k]! + 1;
    });
  }
  return hits.map((count) => count / PROBES);
}

/** A description of a species; the first token of each attribute's word is a target. */
function probeRow(species: number, image: number, encoder: PieceEncoder): Row {
  const traits = traitsOf(species);
  const ids: number[] = [];
  const isTarget: number[] = [];
  ATTRIBUTES.forEach(({ noun, values }, k) => {
    const word = encoder.encode((k === 0 ? '' : ' ') + values[traits[k]!]!.word);
    ids.push(...word, ...encoder.encode(` ${noun}`), ...encoder.encode(k === ATTRIBUTES.length - 1 ? '.' : ','));
    isTarget.push(...word.map((_, t) => (t === 0 ? 1 : 0)));
    while (isTarget.length < ids.length) isTarget.push(0);
  });
  const ask = encoder.row(
    [
      { role: 'user', content: '<image>Describe this bird.' },
      { role: 'assistant', content: '' },
    ],
    image,
    16,
  );
  return { ...ask, branches: [{ ids, isTarget }] };
}
