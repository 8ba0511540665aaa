import { describe, expect, it } from 'vitest';
import { compareRuns } from './compare-runs.ts';
import type { RunRecord, StageRecord } from './run-record.ts';

function runOf(stage: Partial<StageRecord>): RunRecord {
  return {
    pipeline: 'p',
    seed: 1,
    device: 'cpu',
    environment: {},
    stages: [{ name: 'train', outputs: {}, metrics: {}, ...stage }],
  } as unknown as RunRecord;
}

function valuesThatDiffer(before: Partial<StageRecord>, after: Partial<StageRecord>): string[] {
  return compareRuns(runOf(before), runOf(after)).stages.flatMap(({ values }) => values.map(({ path }) => path));
}

describe('compareRuns', () => {
  it('tells what another preset changes', () => {
    const before = {
      options: { preset: 'grpo' },
      settings: { clipHigh: 0.2, referenceKl: { coefficient: 0.04 }, rollouts: 5 },
    };
    const after = { options: { preset: 'dapo' }, settings: { clipHigh: 0.28, referenceKl: null, rollouts: 5 } };
    expect(valuesThatDiffer(before, after)).toEqual(['options.preset', 'settings.clipHigh', 'settings.referenceKl']);
  });

  it('tells an option that differs once', () => {
    const before = { options: { rollouts: 5 }, settings: { rollouts: 5, topP: 1 } };
    const after = { options: { rollouts: 8 }, settings: { rollouts: 8, topP: 1 } };
    expect(valuesThatDiffer(before, after)).toEqual(['options.rollouts']);
    const term = (coefficient: number) => ({
      options: { negativeKl: coefficient },
      settings: { negativeKl: { coefficient, estimator: 'k3' } },
    });
    expect(valuesThatDiffer(term(0.01), term(0.02))).toEqual(['options.negativeKl']);
  });

  it('passes over settings that one of the records does not hold', () => {
    expect(valuesThatDiffer({ options: {} }, { options: {}, settings: { topP: 1 } })).toEqual([]);
  });
});
