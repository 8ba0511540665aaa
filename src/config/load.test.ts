import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { exitCodeOf } from '../errors/format.ts';
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
  const place = at === undefined ? 'nowhere' : at.file === 'command line' ? `--set:${at.col}` : `${at.line}:${at.col}`;
  const marked = at?.lineText === undefined ? '' : ` ${at.lineText.slice(at.col - 1, (at.endCol ?? at.col + 1) - 1)}`;
  const meant = /did you mean "(.*)"/.exec(hint ?? '')?.[1];
  return `${place} ${code}${marked}${meant === undefined ? '' : ` => ${meant}`}`;
}

/** Every problem of each situation: place, code, marked text, suggested word. */
const SITUATIONS: readonly (readonly [situation: string, problems: readonly string[]])[] = [
  ['alias-bomb', ['5:38 YAML_ALIAS_EXPANSION *c']],
  ['alias-to-itself', ['1:20 YAML_ALIAS_EXPANSION *a', '3:41 YAML_ALIAS_UNKNOWN *nowhere']],
  [
    'bad-expression',
    [
      '3:50 EXPRESSION_SYNTAX  + 1',
      "4:53 EXPRESSION_SYNTAX ('a')",
      '5:41 EXPRESSION_SYNTAX ${{ vars.a',
      '6:45 EXPRESSION_SYNTAX }',
      '7:45 EXPRESSION_UNKNOWN_NAME matrix',
      '8:51 VARIABLE_UNKNOWN __proto__',
      '9:55 VARIABLE_UNKNOWN constructor',
      '10:46 VALUE_TYPE vars.list',
      '11:46 EXPRESSION_SYNTAX stages.sum.metrics.loss',
      '12:23 EXPRESSION_UNKNOWN_NAME stages',
    ],
  ],
  ['bad-indentation', ['4:5 YAML_SYNTAX w']],
  ['bad-name', ['1:9 VALUE_INVALID "a b"', '3:3 VALUE_INVALID "1st"']],
  ['cycle-through-three', ['5:20 STAGE_CYCLE "${{ stages.c.outputs.model }}"']],
  ['duplicate-key', ['5:5 YAML_DUPLICATE_KEY uses']],
  ['empty', ['1:1 KEY_MISSING #']],
  [
    'misplaced-artifact',
    [
      '1:21 EXPRESSION_UNKNOWN_NAME stages',
      '7:14 ARTIFACT_MISPLACED ${{ stages.birds.outputs.train }}',
      '9:51 ARTIFACT_MISPLACED stages.birds.outputs.train',
    ],
  ],
  ['missing-input', ['5:14 INPUT_MISSING ./nowhere', '6:13 INPUT_INVALID ./pipeline.yaml', '8:45 INPUT_INVALID .']],
  [
    'missing-option',
    [
      '4:5 KEY_MISSING with',
      '4:5 KEY_MISSING with',
      '6:7 KEY_MISSING teacher',
      '7:3 KEY_MISSING bare',
      '7:3 KEY_MISSING bare',
      '8:3 KEY_MISSING kindless',
    ],
  ],
  ['no-stages', ['2:1 VALUE_RANGE stages']],
  ['not-a-mapping', ['1:1 VALUE_TYPE - stages']],
  ['not-utf8', ['1:1 PIPELINE_FILE_UNREADABLE']],
  ['option-conflict', ['4:72 OPTION_CONFLICT 3']],
  [
    'out-of-range',
    [
      '1:7 VALUE_RANGE -1',
      '4:41 VALUE_RANGE "${{ vars.huge }}"',
      '4:69 VALUE_NOT_ALLOWED gren => green',
      '7:37 VALUE_RANGE 0',
      '7:71 VALUE_RANGE 2',
      '8:15 VALUE_RANGE loss',
      '8:48 VALUE_RANGE accuracy',
    ],
  ],
  ['several-documents', ['3:1 YAML_MULTIPLE_DOCUMENTS ---']],
  ['tab-indentation', ['3:1 YAML_TAB_INDENTATION \t']],
  ['two-cycles', ['2:34 STAGE_CYCLE alone', '3:30 STAGE_CYCLE b']],
  [
    'unknown-key',
    [
      '1:1 KEY_UNKNOWN nmae => name',
      '3:34 KEY_UNKNOWN cuont => count',
      '3:46 KEY_UNKNOWN whit => with',
      '9:19 KEY_UNKNOWN warmupSteps => warmUpSteps',
      '9:35 KEY_UNKNOWN speed',
    ],
  ],
  ['unknown-metric', ['6:7 METRIC_UNKNOWN acuracy => accuracy', '7:15 KEY_UNKNOWN atleast => atLeast']],
  [
    'unknown-reference',
    [
      '5:13 STAGE_UNKNOWN_NEED bird => birds',
      '5:19 STAGE_UNKNOWN_NEED zebra',
      '7:26 STAGE_UNKNOWN lern => learn',
      '8:30 VARIABLE_UNKNOWN lr',
      '9:38 OUTPUT_UNKNOWN trian => train',
    ],
  ],
  ['unknown-stage-kind', ['2:18 STAGE_KIND_UNKNOWN suorce => source', '3:18 STAGE_KIND_UNKNOWN ./mine.ts']],
  ['unreadable-yaml', ['2:41 YAML_SYNTAX ${{ vars.x }}']],
  [
    'unsupported-yaml',
    [
      '1:1 YAML_UNSUPPORTED %YAML',
      '4:18 YAML_UNSUPPORTED !kind',
      '4:40 YAML_UNSUPPORTED [a]',
      '4:48 KEY_UNKNOWN 12',
      '5:33 KEY_UNKNOWN <<',
    ],
  ],
  [
    'unused-variable',
    ['3:3 VARIABLE_UNUSED unused', '4:3 VARIABLE_UNUSED only-by-unused', '5:3 VARIABLE_UNUSED chain'],
  ],
  ['variable-cycle', ['4:10 VARIABLE_CYCLE seed']],
  [
    'wrong-artifact-type',
    [
      '5:20 ARTIFACT_TYPE "${{ stages.birds.outputs.train }}"',
      '5:82 ARTIFACT_TYPE "${{ stages.birds.outputs.test }}"',
      '8:66 ARTIFACT_TYPE "${{ stages.birds.outputs.test }}"',
      '11:57 ARTIFACT_TYPE "${{ stages.learn.outputs.model }}"',
    ],
  ],
  [
    'wrong-type',
    [
      '1:7 VALUE_TYPE one',
      '5:20 VALUE_TYPE 2.5',
      '5:32 VALUE_TYPE 3',
      '5:41 VALUE_TYPE red',
      '6:12 VALUE_TYPE birds',
      '10:14 VALUE_TYPE 5',
      '11:21 VALUE_TYPE "1e-4"',
      '12:7 VALUE_TYPE batchSize',
      '13:32 ARTIFACT_MISPLACED "${{ stages.birds.outputs.train }}"',
    ],
  ],
];

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
  it.each(SITUATIONS)('tells every problem of %s at its place', async (situation, expected) => {
    const problems = await problemsOf(situation);
    expect(problems.map(summary)).toEqual(expected);
    expect(exitCodeOf(new Fr1Errors(problems))).toBe(2);
  });

  it('has a row for every wrong pipeline among the fixtures', () => {
    const folders = readdirSync(FIXTURES).filter((name) => name !== 'valid');
    expect(SITUATIONS.map(([situation]) => situation)).toEqual(folders.sort());
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
