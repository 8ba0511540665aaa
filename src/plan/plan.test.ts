import { describe, expect, it } from 'vitest';
import { STAGE_KINDS } from '../config/testing/stage-kinds.ts';
import { RandomStream } from '../engine/random.ts';
import { Fr1Errors } from '../errors/fr1-error.ts';
import { planPipeline } from './plan.ts';
import { stageSeed } from './seed.ts';
import type { Pipeline, PipelineStage } from './types.ts';

const [SOURCE] = STAGE_KINDS;

/** A pipeline of stages that wait for others by name. */
function pipeline(needs: Readonly<Record<string, readonly string[]>>): Pipeline {
  const stages = Object.entries(needs).map(
    ([name, waitsFor], i): PipelineStage => ({
      name,
      group: name,
      definition: SOURCE,
      options: { count: 1 },
      inputs: [],
      needs: waitsFor.map((stage) => ({ stage, position: { file: 'p.yaml', line: i + 1, col: 5 } })),
      expect: [],
      position: { file: 'p.yaml', line: i + 1, col: 1 },
      positionOf: () => ({ file: 'p.yaml', line: i + 1, col: 1 }),
    }),
  );
  return { file: 'p.yaml', folder: '/', name: 'p', seed: 1, vars: {}, env: [], outputs: [], stages };
}

/** `base` feeds `sft`, which feeds `tapo`; `eval` takes both; `lone` takes nothing. */
const FILE = pipeline({ eval: ['tapo', 'base'], lone: [], tapo: ['sft'], base: [], sft: ['base'] });

const names = (stages: readonly { readonly name: string }[]) => stages.map(({ name }) => name);

function codes(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (error instanceof Fr1Errors) return error.errors.map(({ code, hint }) => `${code} ${hint}`);
    throw error;
  }
  return [];
}

describe('planPipeline()', () => {
  it('puts each stage after what it waits for, else keeps the order of the file', () => {
    const { order, leftOut } = planPipeline(FILE);
    expect(names(order)).toEqual(['lone', 'base', 'sft', 'tapo', 'eval']);
    expect(order.map(({ dependencies }) => dependencies)).toEqual([[], [], ['base'], ['sft'], ['base', 'tapo']]);
    expect(leftOut).toEqual([]);
    expect(order.some(({ forced }) => forced)).toBe(false);
  });

  it('orders every random graph so that each stage follows those it waits for', () => {
    for (let seed = 0; seed < 50; seed++) {
      const random = new RandomStream(seed, 'graph');
      const all = random.shuffled(Array.from({ length: 30 }, (_, i) => `s${i}`));
      const needs: Record<string, string[]> = {};
      for (const name of random.shuffled(all)) {
        needs[name] = all.slice(0, all.indexOf(name)).filter(() => random.uniform() < 0.15);
      }
      const order = names(planPipeline(pipeline(needs)).order);
      expect(order.toSorted()).toEqual(all.toSorted());
      for (const [name, waitsFor] of Object.entries(needs)) {
        for (const other of waitsFor) expect(order.indexOf(other)).toBeLessThan(order.indexOf(name));
      }
    }
  });

  it('chooses with --only the named stages and what they need', () => {
    const { order, leftOut } = planPipeline(FILE, { only: ['sft', 'lone'] });
    expect(names(order)).toEqual(['lone', 'base', 'sft']);
    expect(leftOut).toEqual(['eval', 'tapo']);
  });

  it('chooses with --from what follows and what it needs, and leaves out with --until what follows', () => {
    expect(names(planPipeline(FILE, { from: ['tapo'] }).order)).toEqual(['base', 'sft', 'tapo', 'eval']);
    expect(names(planPipeline(FILE, { until: ['sft'] }).order)).toEqual(['lone', 'base', 'sft']);
    expect(names(planPipeline(FILE, { from: ['sft'], until: ['tapo'] }).order)).toEqual(['base', 'sft', 'tapo']);
    expect(codes(() => planPipeline(FILE, { from: ['sfft'], until: ['bass'] }))).toHaveLength(2);
  });

  it('forces the named stages and what follows', () => {
    const { order } = planPipeline(FILE, { force: ['sft'] });
    expect(names(order.filter(({ forced }) => forced))).toEqual(['sft', 'tapo', 'eval']);
  });

  it('forces everything that is chosen', () => {
    const { order } = planPipeline(FILE, { only: ['sft'], force: true });
    expect(order.map(({ name, forced }) => [name, forced])).toEqual([
      ['base', true],
      ['sft', true],
    ]);
  });

  it('fails on names that are no stages, with the nearest one', () => {
    expect(codes(() => planPipeline(FILE, { only: ['sfft'], force: ['bass'] }))).toEqual([
      'SELECTION_UNKNOWN_STAGE did you mean "sft"?',
      'SELECTION_UNKNOWN_STAGE did you mean "base"?',
    ]);
  });

  it('fails when a forced stage is left out', () => {
    expect(codes(() => planPipeline(FILE, { only: ['base'], force: ['tapo'] }))).toEqual([
      'SELECTION_NOT_PLANNED change --only, --from or --until, or leave it out of --force',
    ]);
  });

  it('fails on a circle even where the selection leaves it out', () => {
    const circle = pipeline({ a: ['b'], b: ['a'], c: [] });
    expect(codes(() => planPipeline(circle, { only: ['c'] }))).toEqual(['STAGE_CYCLE remove one of these references']);
  });

  it('plans a chain of 5,000 stages in seconds', () => {
    const chain = Object.fromEntries(
      Array.from({ length: 5000 }, (_, i) => [`s${i}`, i === 4999 ? [] : [`s${i + 1}`]]),
    );
    const start = performance.now();
    expect(planPipeline(pipeline(chain)).order[0]?.name).toBe('s4999');
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});

describe('stageSeed()', () => {
  it('is the own seed of a stage where it has one', () => {
    expect(stageSeed(1, 'sft', { seed: 5 })).toBe(5);
    expect(stageSeed(1, 'sft', { seed: 0 })).toBe(0);
  });

  it('is derived from the seed of the run and the name, and keeps its value', () => {
    expect(stageSeed(1, 'sft', {})).toBe(1881348139);
    const seeds = [stageSeed(1, 'sft', {}), stageSeed(2, 'sft', {}), stageSeed(1, 'tapo', {}), stageSeed(11, 'ft', {})];
    expect(new Set(seeds).size).toBe(4);
    expect(seeds.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)).toBe(true);
  });
});
