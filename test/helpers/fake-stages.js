/**
 * Stages for tests of the runner: quick, slow, failing, resumable. Plain JavaScript, so that the built CLI can load this
 * file through FR1_EXTRA_STAGES; types are in fake-stages.d.ts.
 */
import { createHash } from 'node:crypto';
import { appendFile, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const schema = (properties, required = []) => ({ type: 'object', properties, required, additionalProperties: false });

/** Writes its text, plus what its input holds, into one file. */
export const fakeWrite = {
  kind: 'fake-write',
  summary: 'Writes a text.',
  version: 1,
  schema: schema({
    text: { type: 'string', description: 'what to write', default: 'hello' },
    data: { artifact: ['image-data'], description: 'a text to write after it' },
    journal: { type: 'string', description: 'file to which each run adds a line' },
    metric: { type: 'number', description: 'value of the metric `score`', default: 0.5 },
    seed: { type: 'integer', description: 'seed of this stage' },
  }),
  outputs: { data: { type: 'image-data', description: 'text.txt' } },
  metrics: ['score'],
  cosmeticOptions: ['journal'],
  resources: () => ({ device: false }),
  async run({ name, options, outputs, signal, log }) {
    signal.throwIfAborted();
    if (options.journal) await appendFile(options.journal, `${name}\n`);
    const before = options.data ? await readFile(join(options.data.path, 'text.txt'), 'utf8') : '';
    await writeFile(join(outputs.data, 'text.txt'), `${options.text}${before}`);
    log(`wrote ${options.text}`);
    const value = options.metric;
    return {
      metrics: { score: { value, low: value - 0.1, high: value + 0.1, n: 10 } },
      tables: [{ title: `Result of ${name}`, columns: ['text', 'score'], rows: [[options.text, String(value)]] }],
    };
  },
};

/**
 * Counts to `steps` and checkpoints each step; its output depends on every step, the seed and the input, and not on
 * where it was interrupted.
 */
export const fakeCount = {
  kind: 'fake-count',
  summary: 'Counts, with a checkpoint at each step.',
  version: 1,
  schema: schema({
    steps: { type: 'integer', minimum: 1, description: 'how far to count', default: 5 },
    stepMs: { type: 'integer', minimum: 0, description: 'time of a step in ms', default: 0 },
    rate: { type: 'number', description: 'goes into the result', default: 1 },
    data: { artifact: ['image-data'], description: 'goes into the result' },
    failAt: { type: 'integer', description: 'step at which it fails, the first time', default: 0 },
    journal: { type: 'string', description: 'file to which each run adds a line with its first step' },
    ballast: { type: 'integer', description: 'bytes written into the output beside the count', default: 0 },
  }),
  outputs: { model: { type: 'checkpoint', description: 'model.json' } },
  metrics: ['steps'],
  cosmeticOptions: ['journal', 'stepMs', 'failAt'],
  resources: () => ({ device: false }),
  async run({ name, options, outputs, state, seed, signal, progress, metric }) {
    const checkpoint = join(state, 'checkpoint.json');
    const saved = await readFile(checkpoint, 'utf8').catch(() => undefined);
    const input = options.data?.digest ?? 'none';
    let { step, value } = saved ? JSON.parse(saved) : { step: 0, value: `${seed}-${options.rate}-${input}` };
    if (options.journal) await appendFile(options.journal, `${name} from ${step}\n`);
    while (step < options.steps) {
      if (options.stepMs > 0) await sleep(options.stepMs, undefined, { signal });
      signal.throwIfAborted();
      step++;
      value = createHash('sha256').update(`${value}/${step}`).digest('hex');
      await writeFile(`${checkpoint}.tmp`, JSON.stringify({ step, value }));
      await rename(`${checkpoint}.tmp`, checkpoint);
      progress({ done: step, total: options.steps, unit: 'steps', note: `loss ${(1 / step).toFixed(2)}` });
      metric(step, { loss: 1 / step });
      if (step === options.failAt && !saved) throw new Error('the count broke off');
    }
    if (options.ballast > 0) await writeFile(join(outputs.model, 'ballast.bin'), Buffer.alloc(options.ballast));
    await writeFile(join(outputs.model, 'model.json'), JSON.stringify({ steps: step, value }));
    return { metrics: { steps: { value: step } } };
  },
};

export const fakeFail = {
  kind: 'fake-fail',
  summary: 'Fails.',
  version: 1,
  schema: schema({
    how: { enum: ['throw', 'no-output', 'nan-metric'], description: 'in which way', default: 'throw' },
  }),
  outputs: { data: { type: 'image-data', description: 'nothing' } },
  resources: () => ({ device: false }),
  async run({ options, outputs }) {
    if (options.how === 'throw') throw new Error('the disk is on fire', { cause: new Error('too hot') });
    if (options.how === 'nan-metric') await writeFile(join(outputs.data, 'text.txt'), 'x');
    return options.how === 'nan-metric' ? { metrics: { score: { value: Number.NaN } } } : {};
  },
};

/** Never ends and does not listen to the abort. */
export const fakeDeaf = {
  kind: 'fake-deaf',
  summary: 'Ignores the abort.',
  version: 1,
  schema: schema({}),
  outputs: { data: { type: 'image-data', description: 'nothing' } },
  resources: () => ({ device: false }),
  run: ({ progress }) =>
    new Promise(() => {
      progress({ done: 0, total: 1, unit: 'steps' });
      setInterval(() => undefined, 1_000);
    }),
};

/** Writes the id of the device it has on lease, and whether that has a memory of its own. */
export const fakeDevice = {
  kind: 'fake-device',
  summary: 'Uses a device.',
  version: 1,
  schema: schema({ ms: { type: 'integer', description: 'how long', default: 0 } }),
  outputs: { data: { type: 'image-data', description: 'text.txt' } },
  resources: () => ({ device: true }),
  async run({ options, outputs, lease, signal }) {
    await sleep(options.ms, undefined, { signal });
    const memory = lease.memory ? ' with its own memory' : '';
    await writeFile(join(outputs.data, 'text.txt'), lease.device.id + memory);
    return {};
  },
};

export const STAGES = [fakeWrite, fakeCount, fakeFail, fakeDeaf, fakeDevice];
