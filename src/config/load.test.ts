import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { exitCodeOf, formatError } from '../errors/format.ts';
import { type Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import { planPipeline } from '../plan/plan.ts';
import { loadPipeline } from './load.ts';
import { STAGE_KINDS } from './testing/stage-kinds.ts';

const FIXTURES = fileURLToPath(new URL('../../test/fixtures/pipelines/', import.meta.url));

function load(situation: string, sets: readonly string[] = []) {
  return loadPipeline({ file: `${situation}/pipeline.yaml`, sets, stages: STAGE_KINDS, cwd: FIXTURES });
}

async function problemsOf(situation: string, sets?: readonly string[]): Promise<readonly Fr1Error[]> {
  try {
    planPipeline(await load(situation, sets));
  } catch (error) {
    if (error instanceof Fr1Errors) return error.errors;
    throw error;
  }
  return [];
}

function summary({ code, at, hint }: Fr1Error): string {
  const file = at === undefined || path.basename(at.file) === 'pipeline.yaml' ? '' : `${path.basename(at.file)}:`;
  const place =
    at === undefined ? 'nowhere' : at.file === 'command line' ? `--set:${at.col}` : `${file}${at.line}:${at.col}`;
  const marked = at?.lineText === undefined ? '' : ` ${at.lineText.slice(at.col - 1, (at.endCol ?? at.col + 1) - 1)}`;
  const meant = /did you mean "(.*)"/.exec(hint ?? '')?.[1];
  return `${place} ${code}${marked}${meant === undefined ? '' : ` => ${meant}`}`;
}

/**
 * Wrong pipelines, a folder each: what fr1 must say stands in `expected.txt`, a line per problem with place, code, marked
 * text and suggested word.
 */
const SITUATIONS = readdirSync(FIXTURES).filter((name) => name !== 'valid');

/** A problem of one override of the pipeline `valid`, placed in the argument itself. */
const OVERRIDES: readonly (readonly [set: string, problem: string])[] = [
  ['seed=x', '--set:12 VALUE_TYPE x'],
  ['sed=3', '--set:7 SET_PATH_UNKNOWN sed => seed'],
  ['vars.lr=5', '--set:15 VALUE_RANGE 5'],
  ['vars.lrr=1', '--set:12 SET_PATH_UNKNOWN lrr => lr'],
  ['name.x=1', '--set:12 SET_PATH_UNKNOWN x'],
  ['stages.earli.with.x=1', '--set:14 SET_PATH_UNKNOWN earli => early'],
  ['stages.late.uses=trian', '--set:24 STAGE_KIND_UNKNOWN trian => train'],
  ['stages.late.needs.3=x', '--set:25 SET_PATH_UNKNOWN 3'],
  ['stages.late.needs=[othr]', '--set:26 STAGE_UNKNOWN_NEED othr => other'],
  ['stages.early.with.batchSize=0', '--set:35 VALUE_RANGE 0'],
  ['stages.early.with.bathSize=1', '--set:25 KEY_UNKNOWN bathSize => batchSize'],
  ['stages.early.with.model=./gone', '--set:31 INPUT_MISSING ./gone'],
  ['stages.early.with.learningRate=${{ vars.lrr }}', '--set:47 VARIABLE_UNKNOWN lrr => lr'],
  ['stages.both.with.models={ a: [1 }', '--set:31 SET_SYNTAX { a: [1 }'],
  ['novalue', '--set:7 SET_SYNTAX novalue'],
  ['=3', '--set:7 SET_SYNTAX ='],
  ['a b=3', '--set:8 SET_SYNTAX  b'],
];

describe('loadPipeline() on wrong pipelines', () => {
  it.each(SITUATIONS)('tells every problem of %s at its place', async (situation) => {
    const problems = await problemsOf(situation);
    expect(problems.length).toBeGreaterThan(0);
    const lines = problems.map((problem) => `${summary(problem)}\n`).join('');
    expect(lines).toBe(readFileSync(path.join(FIXTURES, situation, 'expected.txt'), 'utf8'));
    expect(exitCodeOf(new Fr1Errors(problems))).toBe(2);
    expect(formatError(new Fr1Errors(problems))).not.toMatch(/undefined|\[object/);
  });

  it('has at least 60 situations', () => {
    expect(SITUATIONS.length).toBeGreaterThanOrEqual(60);
  });

  it('tells of a file that does not exist', async () => {
    const [problem] = await problemsOf('nowhere');
    expect(problem).toMatchObject({ code: 'PIPELINE_FILE_MISSING', at: { file: 'nowhere/pipeline.yaml' } });
  });

  it('tells of a folder given as a file', async () => {
    const wrong = loadPipeline({ file: 'valid', stages: STAGE_KINDS, cwd: FIXTURES });
    await expect(wrong).rejects.toMatchObject({ errors: [{ code: 'PIPELINE_FILE_UNREADABLE' }] });
  });

  it('shows a circle as a whole, each step with its place', async () => {
    const file = 'cycle-through-three/pipeline.yaml';
    const [problem] = await problemsOf('cycle-through-three');
    expect(problem?.message.split('\n')).toEqual([
      'stages wait for each other in a circle: a -> c -> b -> a',
      `  "a" waits for "c" (option "model", ${file}:5:20)`,
      `  "c" waits for "b" (option "data", ${file}:13:13)`,
      `  "b" waits for "a" (needs, ${file}:8:19)`,
    ]);
  });

  it('names the variable that a wrong option got its value from', async () => {
    const problems = await problemsOf('out-of-range');
    expect(problems[1]?.message).toBe(
      'stage "birds": option "count" must be at most 1000, but is 5000 (from vars.huge)',
    );
  });

  it('stops at 10,000 values that aliases expand to', async () => {
    const start = performance.now();
    await problemsOf('alias-bomb');
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('loadPipeline() with overrides', () => {
  it.each(OVERRIDES)('tells the problem of --set %s on the command line', async (set, expected) => {
    expect((await problemsOf('valid', [set])).map(summary)).toEqual([expected]);
  });

  it('puts values of every type in place, the last one winning', async () => {
    const pipeline = await load('valid', [
      'seed=2',
      'name=other: name',
      'vars.lr=1e-3',
      'stages.birds.with.label="5"',
      'stages.birds.with.count=4',
      'stages.birds.with.count=${{ seed }}',
      'stages.late.needs=[]',
      'stages.late.with.schedule.kind=cosine',
      "stages.early.expect['loss'].atMost=3",
    ]);
    const [late, birds, other, early] = pipeline.stages;
    expect(pipeline).toMatchObject({ name: 'other: name', seed: 2 });
    expect(birds?.options).toMatchObject({ label: '5', count: 2 });
    expect(late).toMatchObject({ needs: [], options: { schedule: { kind: 'cosine', warmUpSteps: 0 } } });
    expect(early?.options['learningRate']).toBe(1e-3);
    expect(early?.expect.map(({ metric, atMost }) => [metric, atMost])).toEqual([
      ['accuracy', undefined],
      ['loss', 3],
    ]);
    // An alias is a copy: an override of one place leaves the other alone.
    expect(other?.options).toMatchObject({ label: 'seed 2 and 0.2', count: 3 });
  });
});

describe('loadPipeline()', () => {
  it('resolves expressions, fills in defaults and puts placeholders where artifacts go', async () => {
    const pipeline = await load('valid');
    expect(pipeline).toMatchObject({
      file: 'valid/pipeline.yaml',
      folder: path.join(FIXTURES, 'valid'),
      name: 'complete',
      seed: 7,
      vars: { lr: 1e-4, rates: { fine: 1e-5, list: [0.1, 0.2] }, base: './checkpoint', note: 'seed 7' },
    });
    const [late, birds, other, early, both] = pipeline.stages;
    const checkpoint = {
      kind: 'local-input',
      path: path.join(FIXTURES, 'valid', 'checkpoint'),
      written: './checkpoint',
      type: 'checkpoint',
    };
    const ref = (stage: string, output: string, type: string) => ({ kind: 'artifact-ref', stage, output, type });
    expect(birds?.options).toEqual({ count: 3, colour: 'red', label: 'seed 7 and 0.2' });
    expect(other?.options).toEqual(birds?.options);
    expect(early?.options).toEqual({
      model: checkpoint,
      data: ref('birds', 'train', 'image-data'),
      learningRate: 1e-4,
      batchSize: 8,
      logEvery: 10,
      schedule: { kind: 'constant', warmUpSteps: 0 },
    });
    expect(early?.inputs).toMatchObject([
      { pointer: '/data', source: ref('birds', 'train', 'image-data'), position: { line: 21, col: 13 } },
      { pointer: '/model', source: checkpoint, position: { line: 20, col: 14 } },
    ]);
    expect(early?.expect).toMatchObject([{ metric: 'accuracy', atLeast: 0.5, position: { line: 24, col: 7 } }]);
    expect(late?.needs).toMatchObject([{ stage: 'other', position: { line: 11, col: 13 } }]);
    expect(late?.options).toMatchObject({ learningRate: 1e-5, logEvery: 5 });
    expect(both?.inputs.map(({ pointer }) => pointer)).toEqual(['/models/a', '/models/b']);
    expect(both?.options).toEqual({ models: { a: ref('early', 'model', 'checkpoint'), b: checkpoint } });
  });

  it('names a pipeline without a name after its file and takes 1 as its seed', async () => {
    expect(await load('two-cycles')).toMatchObject({ name: 'pipeline', seed: 1, vars: {} });
  });

  it('does not change the schemas or the defaults of the stages', async () => {
    const first = await load('valid');
    (first.stages[3]?.options['schedule'] as { kind: string }).kind = 'changed';
    expect((await load('valid')).stages[3]?.options['schedule']).toEqual({ kind: 'constant', warmUpSteps: 0 });
  });
});
