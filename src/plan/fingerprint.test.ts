import { describe, expect, it } from 'vitest';
import { STAGE_KINDS } from '../config/testing/stage-kinds.ts';
import { RandomStream } from '../engine/random.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { explainRerun, printChange } from './explain-rerun.ts';
import { fingerprintStage } from './fingerprint.ts';
import type { FingerprintFields, Numerics, PlannedStage } from './types.ts';

const [, TRAIN] = STAGE_KINDS;
const POSITION = { file: 'pipeline.yaml', line: 1, col: 1 };
const NUMERICS: Numerics = { fr1: '1', onnxruntime: '1.30.0', provider: 'cpu', threads: 2 };
const INPUTS = { '/data': `sha256:${'a'.repeat(64)}`, '/model': `sha256:${'b'.repeat(64)}` };

function planned(changes: Partial<PlannedStage> = {}, definition: Partial<StageDefinition> = {}): PlannedStage {
  const model = { kind: 'artifact-ref', stage: 'base', output: 'model', type: 'checkpoint' } as const;
  const data = { kind: 'local-input', path: '/data', written: './data', type: 'image-data' } as const;
  return {
    name: 'learn',
    group: 'learn',
    definition: { ...TRAIN, ...definition },
    options: {
      model,
      data,
      learningRate: 1e-4,
      batchSize: 8,
      logEvery: 10,
      schedule: { kind: 'cosine', warmUpSteps: 5 },
    },
    inputs: [
      { pointer: '/data', source: data, position: POSITION },
      { pointer: '/model', source: model, position: POSITION },
    ],
    needs: [],
    expect: [],
    position: POSITION,
    positionOf: () => POSITION,
    dependencies: ['base'],
    seed: 11,
    resources: { device: true },
    forced: false,
    ...changes,
  };
}

function changedPaths(after: FingerprintFields): string[] {
  return explainRerun(fingerprintStage(planned(), INPUTS, NUMERICS).fields, after).map(({ path }) => path);
}

/** A random JSON value, the same for the same stream. */
function randomValue(random: RandomStream, depth: number): unknown {
  switch (random.integer(depth > 0 ? 6 : 4)) {
    case 0:
      return random.normal();
    case 1:
      return random.integer(1000);
    case 2:
      return random.choice(['', 'text', 'ä"\\\n', '1', '__proto__']);
    case 3:
      return random.choice([true, false, null]);
    case 4:
      return Array.from({ length: random.integer(4) }, () => randomValue(random, depth - 1));
    default:
      return Object.fromEntries(
        Array.from({ length: random.integer(5) }, () => [
          random.choice(['a', 'b', 'c', 'z', '10', '9', 'key/with~signs']),
          randomValue(random, depth - 1),
        ]),
      );
  }
}

/** The same value with the keys of every mapping in another order. */
function reordered(value: unknown, random: RandomStream): unknown {
  if (Array.isArray(value)) return value.map((item) => reordered(item, random));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    random.shuffled(Object.entries(value)).map(([key, member]) => [key, reordered(member, random)]),
  );
}

/** Every way to change one leaf of a value. */
function* withOneChange(value: unknown): Generator<unknown> {
  if (Array.isArray(value)) {
    yield [...value, 'added'];
    for (const [i, item] of value.entries()) for (const other of withOneChange(item)) yield value.with(i, other);
  } else if (value !== null && typeof value === 'object') {
    yield { ...value, added: null };
    for (const [key, member] of Object.entries(value)) {
      const { [key]: _removed, ...rest } = value as Record<string, unknown>;
      yield rest;
      for (const other of withOneChange(member)) yield { ...value, [key]: other };
    }
  } else {
    yield typeof value === 'number' ? value + 1 : typeof value === 'string' ? `${value}!` : `not ${value}`;
  }
}

describe('fingerprintStage()', () => {
  it('does not depend on the order of keys', () => {
    for (let seed = 0; seed < 200; seed++) {
      const random = new RandomStream(seed, 'options');
      const options = Object.fromEntries(['p', 'q', 'r'].map((key) => [key, randomValue(random, 3)]));
      const first = fingerprintStage(planned({ options, inputs: [] }), {}, NUMERICS);
      const shuffled = reordered(options, random) as Record<string, unknown>;
      expect(fingerprintStage(planned({ options: shuffled, inputs: [] }), {}, NUMERICS).digest).toBe(first.digest);
    }
  });

  it('changes with every single leaf of the options, and says which', () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = new RandomStream(seed, 'options');
      const options = { p: randomValue(random, 3), q: randomValue(random, 3) };
      const first = fingerprintStage(planned({ options, inputs: [] }), {}, NUMERICS);
      for (const other of withOneChange(options)) {
        const stage = planned({ options: other as Record<string, unknown>, inputs: [] });
        const second = fingerprintStage(stage, {}, NUMERICS);
        expect(second.digest, JSON.stringify([options, other])).not.toBe(first.digest);
        const changes = explainRerun(first.fields, second.fields);
        expect(changes).not.toHaveLength(0);
        expect(changes.every(({ path }) => path.startsWith('options.'))).toBe(true);
      }
    }
  });

  const first = fingerprintStage(planned(), INPUTS, NUMERICS);

  it.each([
    ['kind', planned({}, { kind: 'other' }), INPUTS, NUMERICS],
    ['stageVersion', planned({}, { version: 4 }), INPUTS, NUMERICS],
    ['seed', planned({ seed: 12 }), INPUTS, NUMERICS],
    ['inputs.model', planned(), { ...INPUTS, '/model': 'sha256:c' }, NUMERICS],
    ['inputs.data', planned(), { ...INPUTS, '/data': 'sha256:c' }, NUMERICS],
    ['engine.fr1', planned(), INPUTS, { ...NUMERICS, fr1: '2' }],
    ['engine.onnxruntime', planned(), INPUTS, { ...NUMERICS, onnxruntime: '1.31.0' }],
    ['engine.provider', planned(), INPUTS, { ...NUMERICS, provider: 'webgpu' }],
    ['engine.threads', planned(), INPUTS, { ...NUMERICS, threads: 4 }],
    ['options.learningRate', planned({ options: { ...planned().options, learningRate: 2e-4 } }), INPUTS, NUMERICS],
  ] as const)('changes with %s, and says so', (path, stage, inputs, numerics) => {
    const second = fingerprintStage(stage, inputs, numerics);
    expect(second.digest).not.toBe(first.digest);
    expect(changedPaths(second.fields)).toEqual([path]);
  });

  it('holds exactly the documented fields', () => {
    expect(first.fields).toEqual({
      version: 1,
      kind: 'train',
      stageVersion: 3,
      options: {
        model: null,
        data: null,
        learningRate: 1e-4,
        batchSize: 8,
        schedule: { kind: 'cosine', warmUpSteps: 5 },
      },
      inputs: INPUTS,
      seed: 11,
      engine: NUMERICS,
    });
    expect(first.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  // Origin: hashlib.sha256 over json.dumps(fields, sort_keys=True, separators=(',', ':')), Python 3.
  it('keeps its value: a stored result stays valid with the next version of fr1', () => {
    expect(first.digest).toBe('sha256:7e60ec802e0614be03712740c6c32ab39a81f31c6d0574767d0149275a058a22');
  });

  it.each([
    ['cosmetic options', { options: { ...planned().options, logEvery: 1 } }],
    ['the name of the stage', { name: 'renamed' }],
    ['the place in the file', { position: { file: 'other.yaml', line: 9, col: 9 } }],
    ['expectations', { expect: [{ metric: 'loss', atMost: 1, position: POSITION }] }],
    ['needs', { needs: [{ stage: 'x', position: POSITION }], dependencies: ['base', 'x'] }],
    ['--force', { forced: true }],
  ] as const)('does not depend on %s', (_what, changes) => {
    expect(fingerprintStage(planned(changes), INPUTS, NUMERICS).digest).toBe(first.digest);
  });

  it('does not depend on where an input comes from, only on its content', () => {
    const model = { kind: 'local-input', path: '/copy', written: './copy', type: 'checkpoint' } as const;
    const stage = planned();
    const moved = planned({
      options: { ...stage.options, model },
      inputs: [stage.inputs[0]!, { pointer: '/model', source: model, position: POSITION }],
    });
    expect(fingerprintStage(moved, INPUTS, NUMERICS).digest).toBe(first.digest);
  });

  it('leaves the device out where a stage uses none', () => {
    const stage = planned({ resources: { device: false } });
    const { digest, fields } = fingerprintStage(stage, INPUTS, NUMERICS);
    expect(fields.engine).toEqual({ fr1: '1' });
    expect(fingerprintStage(stage, INPUTS, { ...NUMERICS, provider: 'webgpu', threads: 9 }).digest).toBe(digest);
  });

  it('does not change the options of the stage', () => {
    const stage = planned();
    fingerprintStage(stage, INPUTS, NUMERICS);
    expect(stage.options['model']).toMatchObject({ kind: 'artifact-ref' });
  });

  it('fails when digests are absent or superfluous', () => {
    expect(() => fingerprintStage(planned(), { '/data': 'x' }, NUMERICS)).toThrow(/no \/model/);
    expect(() => fingerprintStage(planned(), { ...INPUTS, '/extra': 'x' }, NUMERICS)).toThrow(/unknown \/extra/);
  });

  it('fails on a number that JSON cannot hold', () => {
    const options = { ...planned().options, learningRate: Number.NaN };
    expect(() => fingerprintStage(planned({ options }), INPUTS, NUMERICS)).toThrow(TypeError);
  });
});

describe('explainRerun()', () => {
  const { fields } = fingerprintStage(planned(), INPUTS, NUMERICS);

  it('is empty for equal fields', () => {
    expect(explainRerun(fields, structuredClone(fields))).toEqual([]);
  });

  it('tells old and new values, and what came or went, sorted by path', () => {
    const changed = {
      ...fields,
      seed: 12,
      options: { ...fields.options, batchSize: undefined, extra: [1], schedule: { kind: 'constant', warmUpSteps: 5 } },
      inputs: { ...fields.inputs, '/model': `sha256:${'c'.repeat(64)}` },
    };
    expect(explainRerun(fields, changed).map(printChange)).toEqual([
      'inputs.model: sha256:bbbbbbbbbbbb -> sha256:cccccccccccc',
      'options.batchSize: 8 -> absent',
      'options.extra: absent -> [1]',
      'options.schedule.kind: "cosine" -> "constant"',
      'seed: 11 -> 12',
    ]);
  });
});
