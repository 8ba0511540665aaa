import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import { planPipeline } from '../plan/plan.ts';
import { loadPipeline } from './load.ts';
import { STAGE_KINDS } from './testing/stage-kinds.ts';
import type { ConditionFacts, Pipeline } from './types.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-language-'));
  mkdirSync(path.join(folder, 'base'));
  writeFileSync(path.join(folder, 'base', 'config.json'), '{}');
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function write(name: string, text: string): void {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
}

async function load(text: string, sets: readonly string[] = []): Promise<Pipeline> {
  write('p.yaml', text);
  const pipeline = await loadPipeline({ file: 'p.yaml', sets, stages: STAGE_KINDS, cwd: folder });
  planPipeline(pipeline);
  return pipeline;
}

/** `file:line:col code` of each problem. */
async function problems(text: string): Promise<string[]> {
  try {
    await load(text);
  } catch (error) {
    if (!(error instanceof Fr1Errors)) throw error;
    return error.errors.map(({ code, at }: Fr1Error) => `${at?.file}:${at?.line}:${at?.col} ${code}`);
  }
  return [];
}

const optionsOf = (pipeline: Pipeline) => Object.fromEntries(pipeline.stages.map((each) => [each.name, each.options]));

describe('matrix', () => {
  const GRID = `
vars: { colours: [red, green] }
stages:
  birds:
    uses: source
    matrix:
      colour: \${{ vars.colours }}
      count: [1, 2]
      exclude: [{ colour: green, count: 2 }]
      include: [{ colour: blue, count: 3 }, { colour: red, label: warm }]
    if: matrix.count < 3
    with: { colour: "\${{ matrix.colour }}", count: "\${{ matrix.count }}" }
  one: { uses: source, with: { from: ["\${{ stages.birds.red[1 ].outputs.train }}"] } }
  red: { uses: source, with: { from: "\${{ stages.birds.red.outputs.train }}" } }
  all: { uses: source, with: { from: "\${{ stages.birds.outputs.train }}" }, needs: [birds] }
  named: { uses: source, with: { from: ["\${{ stages['birds.green.1'].outputs.train }}"] } }
`;

  it('makes a stage of each cell, with its values in options and conditions', async () => {
    const pipeline = await load(GRID);
    expect(pipeline.stages.slice(0, 4)).toMatchObject([
      {
        name: 'birds.red.1',
        group: 'birds',
        matrix: { colour: 'red', count: 1, label: 'warm' },
        if: { constant: true },
      },
      { name: 'birds.red.2', options: { colour: 'red', count: 2 } },
      { name: 'birds.green.1' },
      { name: 'birds.blue.3', if: { constant: false } },
    ]);
  });

  it('refers to one cell, to those with a value, or to all as a list', async () => {
    const { one, red, all, named } = optionsOf(await load(GRID));
    const from = (options: Record<string, unknown> = {}) =>
      (options['from'] as { stage: string }[]).map(({ stage }) => stage);
    expect(from(one)).toEqual(['birds.red.1']);
    expect(from(red)).toEqual(['birds.red.1', 'birds.red.2']);
    expect(from(all)).toEqual(['birds.red.1', 'birds.red.2', 'birds.green.1', 'birds.blue.3']);
    expect(from(named)).toEqual(['birds.green.1']);
  });

  it('joins cells of two matrices by their values', async () => {
    const pipeline = await load(`
stages:
  birds: { uses: source, matrix: { colour: [red, blue] }, with: { colour: "\${{ matrix.colour }}" } }
  learn:
    uses: train
    matrix: { colour: [blue, red], part: [train] }
    with:
      model: ./base
      learningRate: 0.1
      data: "\${{ stages.birds[matrix.colour].outputs[matrix.part] }}"
`);
    const plan = planPipeline(pipeline, { only: ['learn.blue.train'] });
    expect(plan.order.map(({ name }) => name)).toEqual(['birds.blue', 'learn.blue.train']);
    expect(planPipeline(pipeline, { only: ['learn'] }).order).toHaveLength(4);
  });

  it('tells of axes, cells and references that do not exist', async () => {
    const text = `
stages:
  a: { uses: source, matrix: { x: [1, 1], y: [] } }
  b: { uses: source, matrix: { x: [1, 2], exclude: [{ x: 3 }, { z: 1 }], include: [{ x: 2 }, { q: 4 }] } }
  c: { uses: source, matrix: { x: [1], exclude: [{ x: 1 }] } }
  d: { uses: source, matrix: { x: [1, 2] }, with: { count: "\${{ matrix.y }}" } }
  e: { uses: source, with: { from: "\${{ stages.d.3.outputs.train }}", label: "\${{ matrix.x }}" } }
  f: { uses: train, with: { model: ./base, learningRate: 1, data: "\${{ stages.d.outputs.train }}" } }
`;
    expect(await problems(text)).toEqual([
      'p.yaml:3:39 MATRIX_INVALID',
      'p.yaml:3:46 MATRIX_INVALID',
      'p.yaml:4:53 MATRIX_INVALID',
      'p.yaml:4:65 MATRIX_INVALID',
      'p.yaml:4:84 MATRIX_INVALID',
      'p.yaml:5:22 MATRIX_INVALID',
      'p.yaml:6:72 VARIABLE_UNKNOWN',
      'p.yaml:7:50 STAGE_UNKNOWN',
      'p.yaml:7:83 EXPRESSION_UNKNOWN_NAME',
      'p.yaml:8:67 VALUE_TYPE',
    ]);
  });
});

describe('expressions', () => {
  it('compare, combine and call functions', async () => {
    const pipeline = await load(`
vars: { mode: long, steps: [1, 5], rate: 0.1 }
stages:
  a:
    uses: source
    with:
      count: \${{ vars.mode == 'long' && vars.steps[1] || 2 }}
      label: "\${{ format('{0}/{1}', vars.mode, join(vars.steps, '+')) }} \${{ !contains(vars.steps, 5) }}"
  b: { uses: source, if: "(vars.rate >= 0.1 && startsWith(vars.mode, 'lo')) || seed != 1" }
`);
    expect(pipeline.stages[0]?.options).toMatchObject({ count: 5, label: 'long/1+5 false' });
    expect(pipeline.stages[1]?.if).toMatchObject({ constant: true });
  });

  it('cannot reach anything but what the document names', async () => {
    const reach = ['process.env', 'constructor', '__proto__', 'globalThis', 'vars.constructor', 'vars["__proto__"].x'];
    const calls = [
      'eval("1")',
      'vars.a.toString()',
      "require('fs')",
      "contains.constructor('x')",
      "join['constructor']",
    ];
    for (const expression of [...reach, ...calls]) {
      const found = await problems(
        `vars: { a: x }\nstages:\n  s: { uses: source, with: { label: '\${{ ${expression.replaceAll("'", "''")} }} \${{ vars.a }}' } }\n`,
      );
      expect(found, expression).toHaveLength(1);
      expect(found[0], expression).toMatch(/EXPRESSION_SYNTAX|EXPRESSION_UNKNOWN_NAME|VARIABLE_UNKNOWN/);
    }
  });

  it('do not convert types in silence', async () => {
    const wrong = [
      "seed == '1'",
      "seed < '2'",
      'contains(seed, 1)',
      "format('{1}', 1)",
      'success()',
      'nope(1)',
      'join(1, 2, 3)',
    ];
    for (const expression of wrong) {
      const found = await problems(`stages:\n  s: { uses: source, with: { label: "\${{ ${expression} }}" } }\n`);
      expect(found, expression).toHaveLength(1);
      expect(found[0], expression).toMatch(/EXPRESSION_(TYPE|SYNTAX|UNKNOWN_NAME)/);
    }
  });
});

describe('if', () => {
  const facts = (endings: Record<string, 'succeeded' | 'failed' | 'skipped'>, loss?: number): ConditionFacts => ({
    ending: (stage) => endings[stage] ?? 'succeeded',
    metric: () => loss,
  });

  it('asks for metrics and endings of stages when these are known', async () => {
    const pipeline = await load(`
stages:
  learn: { uses: train, with: { model: ./base, learningRate: 1 } }
  more: { uses: train, if: stages.learn.metrics.loss > 0.5 && seed == 1, with: { model: "\${{ stages.learn.outputs.model }}", learningRate: 1 } }
  report: { uses: source, needs: [learn], if: "\${{ failure() || stages.more.status == 'skipped' }}" }
`);
    const [, more, report] = pipeline.stages;
    expect(more?.if).toMatchObject({ stages: ['learn'], toleratesFailure: false });
    expect(more?.if?.evaluate(facts({}, 0.6), ['learn'])).toBe(true);
    expect(more?.if?.evaluate(facts({}, 0.4), ['learn'])).toBe(false);
    expect(() => more?.if?.evaluate(facts({}), ['learn'])).toThrow(/has no metric "loss"/);
    expect(report?.if).toMatchObject({ stages: ['more'], toleratesFailure: true });
    expect(report?.if?.evaluate(facts({ learn: 'failed' }), ['learn', 'more'])).toBe(true);
    expect(report?.if?.evaluate(facts({ more: 'skipped' }), ['learn', 'more'])).toBe(true);
    expect(report?.if?.evaluate(facts({}), ['learn', 'more'])).toBe(false);
    expect(planPipeline(pipeline).order.map(({ dependencies }) => dependencies)).toEqual([
      [],
      ['learn'],
      ['learn', 'more'],
    ]);
  });

  it('tells of conditions that are none, and of stages that can never run', async () => {
    const text = `
stages:
  a: { uses: source, if: seed }
  b: { uses: source, if: [1] }
  c: { uses: source, if: stages.learn.metrics.los > 1 }
  d: { uses: source, if: stages.learn.outputs.model == 'x' }
  e: { uses: source, if: stages.gone.status == 'failed' }
  f: { uses: source, if: "x \${{ seed }}" }
  learn: { uses: train, with: { model: ./base, learningRate: 1 } }
`;
    expect(await problems(text)).toEqual([
      'p.yaml:3:26 CONDITION_INVALID',
      'p.yaml:4:26 VALUE_TYPE',
      'p.yaml:5:47 METRIC_UNKNOWN',
      'p.yaml:6:26 EXPRESSION_SYNTAX',
      'p.yaml:7:33 STAGE_UNKNOWN',
      'p.yaml:8:26 EXPRESSION_SYNTAX',
    ]);
    const dead = `
stages:
  off: { uses: source, if: false }
  use: { uses: source, with: { from: ["\${{ stages.off.outputs.train }}"] } }
  never: { uses: source, if: failure() }
`;
    expect(await problems(dead)).toEqual(['p.yaml:4:39 STAGE_UNREACHABLE', 'p.yaml:5:30 STAGE_UNREACHABLE']);
  });
});

describe('extends', () => {
  const BASE = `
vars: { rate: 0.1, steps: { a: 1, b: 2 } }
stages:
  learn:
    uses: train
    with: { model: ../base, learningRate: "\${{ vars.rate }}", batchSize: "\${{ vars.steps.a }}" }
  birds: { uses: source, with: { count: "\${{ vars.steps.b }}" } }
  gone: { uses: source }
`;

  it('merges mappings, replaces the rest, removes what is empty, and keeps relative paths', async () => {
    write('shared/base.yaml', BASE);
    write('shared/middle.yaml', 'extends: base.yaml\nvars: { rate: 0.2, steps: { b: 3 } }\n');
    const pipeline = await load(`
extends: ./shared/middle.yaml
stages:
  learn: { with: { batchSize: 4, logEvery: 2 } }
  gone:
vars: { steps: { a: ~ } }
`);
    expect(pipeline.stages.map(({ name }) => name)).toEqual(['learn', 'birds']);
    expect(pipeline.stages[0]?.options).toMatchObject({
      learningRate: 0.2,
      batchSize: 4,
      logEvery: 2,
      model: { path: path.join(folder, 'base') },
    });
    expect(pipeline.stages[1]?.options).toMatchObject({ count: 3 });
  });

  it('drops the options of a stage that becomes another kind', async () => {
    write('base.yaml', 'stages:\n  s: { uses: train, with: { model: ./base, learningRate: 1 } }\n');
    const pipeline = await load('extends: [base.yaml]\nstages: { s: { uses: source, with: { count: 2 } } }\n');
    expect(pipeline.stages[0]?.options).toMatchObject({ count: 2 });
  });

  it('tells a problem where it is written, in whichever file', async () => {
    write('base.yaml', 'stages:\n  s: { uses: source, with: { cuont: 2, label: "${{ vars.x }}" } }\nvars: { y: 1 }\n');
    const text = 'extends: base.yaml\nstages: { s: { with: { count: 5000 } } }\nvars: { z: 1 }\n';
    expect(await problems(text)).toEqual([
      'p.yaml:2:31 VALUE_RANGE',
      'p.yaml:3:9 VARIABLE_UNUSED',
      'base.yaml:2:30 KEY_UNKNOWN',
      'base.yaml:2:57 VARIABLE_UNKNOWN',
      'base.yaml:3:9 VARIABLE_UNUSED',
    ]);
  });

  it('tells of files that are missing, broken or in a circle', async () => {
    write('a.yaml', 'extends: p.yaml\n');
    write('list.yaml', '- 1\n');
    write('broken.yaml', 'a: [\n');
    expect(
      await problems('extends: [gone.yaml, a.yaml, list.yaml, broken.yaml, 3]\nstages: { s: { uses: source } }\n'),
    ).toEqual([
      'p.yaml:1:11 EXTENDS_UNREADABLE',
      'p.yaml:1:30 EXTENDS_UNREADABLE',
      'p.yaml:1:54 EXTENDS_UNREADABLE',
      'a.yaml:1:10 EXTENDS_UNREADABLE',
      'broken.yaml:2:1 YAML_SYNTAX',
    ]);
  });
});

describe('settings that nothing reads', () => {
  it('Q8: are errors at their places, where the released scripts set variables that they never pass on', async () => {
    // What a script sets, the names that its command hands to the trainer, and what the trainer takes otherwise.
    type Settings = Readonly<Record<string, number>>;
    const released = (set: Settings, passedOn: readonly string[], otherwise: Settings) => ({
      ...otherwise,
      ...Object.fromEntries(passedOn.map((name) => [name, set[name]])),
    });
    const defaults = { count: 10 };
    expect(released({ count: 20 }, [], defaults)).toEqual({ count: 10 });
    expect(released({ count: 20 }, ['count'], defaults)).toEqual({ count: 20 });
    const stage = (options: string) => `vars: { count: 20 }\nstages: { s: { uses: source, with: ${options} } }\n`;
    expect(await problems(stage('{}'))).toEqual(['p.yaml:1:9 VARIABLE_UNUSED']);
    expect(await problems(stage('{ counts: "${{ vars.count }}" }'))).toEqual(['p.yaml:2:38 KEY_UNKNOWN']);
    const { stages } = await load(stage('{ count: "${{ vars.count }}" }'));
    expect(stages[0]!.options).toMatchObject({ count: 20 });
  });
});

describe('a large file', () => {
  it('is refused at once, before it is parsed', async () => {
    const startedAt = performance.now();
    expect(await problems(`vars: { list: [${'{ name: item, value: 1.5e-3 }, '.repeat(350_000)}] }\n`)).toEqual([
      'p.yaml:1:1 PIPELINE_FILE_UNREADABLE',
    ]);
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });
});

describe('retry, timeout, resources, expect, outputs', () => {
  it('are read with their defaults', async () => {
    const pipeline = await load(`
outputs:
  results/model: \${{ stages.learn.outputs.model }}
  link: { from: "\${{ stages.learn.outputs.model }}", as: link }
stages:
  learn:
    uses: train
    retry: { times: 3, delay: 1 min, maxDelay: 1h30min }
    timeout: 2h
    resources: { memory: 1.5GiB, slots: 2 }
    with: { model: ./base, learningRate: 1 }
    expect:
      loss: { within: { of: 1, tolerance: 0.1 }, betterThan: { stage: other, metric: accuracy, direction: lower } }
  other: { uses: train, retry: 2, with: { model: ./base, learningRate: 1 } }
`);
    expect(pipeline.stages[0]).toMatchObject({
      retry: { times: 3, delayMs: 60_000, factor: 2, maxDelayMs: 5_400_000 },
      timeoutMs: 7_200_000,
      resources: { memoryBytes: 1.5 * 2 ** 30, slots: 2 },
      expect: [
        {
          within: { of: 1, tolerance: 0.1 },
          betterThan: { stage: 'other', metric: 'accuracy', by: 0, significance: 0.05, direction: 'lower' },
        },
      ],
    });
    expect(pipeline.stages[1]?.retry).toEqual({ times: 2, delayMs: 5_000, factor: 2, maxDelayMs: 600_000 });
    expect(pipeline.outputs).toMatchObject([
      {
        written: 'results/model',
        path: path.join(folder, 'results', 'model'),
        mode: 'copy',
        source: { stage: 'learn' },
      },
      { written: 'link', mode: 'link' },
    ]);
    const plan = planPipeline(pipeline);
    expect(plan.order.map(({ name }) => name)).toEqual(['other', 'learn']);
    expect(plan.order[1]?.resources).toEqual({ device: true, memoryBytes: 1.5 * 2 ** 30, slots: 2 });
  });

  it('keep the outputs of a pipeline in its folder', async () => {
    const places = ['../x', '/tmp/x', 'a/../../x', '.fr1/x', '.', 'p.yaml', 'C:\\x', 'a\\..\\..\\x'];
    for (const place of places) {
      const found = await problems(
        `stages: { s: { uses: source } }\noutputs: { '${place}': "\${{ stages.s.outputs.train }}" }\n`,
      );
      expect(found, place).toEqual([expect.stringMatching(/p\.yaml:2:12 OUTPUT_PATH_INVALID/)]);
    }
    expect(
      await problems(
        'stages: { s: { uses: source } }\noutputs:\n  a: ${{ stages.s.outputs.train }}\n  a/b: ${{ stages.s.outputs.test }}\n',
      ),
    ).toEqual(['p.yaml:4:3 OUTPUT_PATH_INVALID']);
  });
});

describe('env', () => {
  it('leaves the name in options, so that no value is planned or fingerprinted', async () => {
    const pipeline = await load(`
env: { TOKEN: , EXTRA: { optional: true, description: for the mirror } }
vars: { header: "Bearer \${{ env.TOKEN }}" }
stages:
  s: { uses: source, with: { label: "<\${{ vars.header }}> \${{ env.EXTRA }}" } }
`);
    expect(pipeline.env).toMatchObject([
      { name: 'TOKEN', optional: false },
      { name: 'EXTRA', optional: true },
    ]);
    expect(pipeline.stages[0]?.options['label']).toBe('<Bearer ${{ env.TOKEN }}> ${{ env.EXTRA }}');
  });

  it('is refused wherever a value would be printed, stored or compared', async () => {
    const text = `
name: "\${{ env.TOKEN }}"
env: [TOKEN, UNUSED, 'no name']
vars: { token: "\${{ env.TOKEN }}" }
stages:
  a: { uses: source, if: env.TOKEN == 'x', with: { label: "\${{ env.TOKE }}", count: "\${{ env.TOKEN }}" } }
  b: { uses: "\${{ env.TOKEN }}", timeout: "\${{ vars.token }}" }
  c: { uses: train, with: { model: "\${{ env.TOKEN }}", learningRate: 1 } }
  d: { uses: source, matrix: { x: ["\${{ env.TOKEN }}"] }, with: { label: "\${{ startsWith(env.TOKEN, 'a') }}" } }
`;
    expect(await problems(text)).toEqual([
      'p.yaml:2:12 ENV_MISPLACED',
      'p.yaml:3:22 VALUE_INVALID',
      'p.yaml:6:26 ENV_MISPLACED',
      'p.yaml:6:68 ENV_UNDECLARED',
      'p.yaml:6:85 VALUE_TYPE',
      'p.yaml:7:19 ENV_MISPLACED',
      'p.yaml:7:48 ENV_MISPLACED',
      'p.yaml:8:36 ENV_MISPLACED',
      'p.yaml:9:41 ENV_MISPLACED',
      'p.yaml:9:90 ENV_MISPLACED',
    ]);
    expect(await problems('env: [UNUSED]\nstages: { s: { uses: source } }\n')).toEqual(['p.yaml:1:7 ENV_UNUSED']);
  });
});
