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
    const before = { options: { preset: 'grpo' }, settings: { clipHigh: 0.2, loss: { ownEntropy: 1 }, rollouts: 5 } };
    const after = { options: { preset: 'dapo' }, settings: { clipHigh: 0.28, loss: {}, rollouts: 5 } };
    expect(valuesThatDiffer(before, after)).toEqual([
      'options.preset',
      'settings.clipHigh',
      'settings.loss.ownEntropy',
    ]);
  });

  it('tells an option that differs once', () => {
    const before = { options: { rollouts: 5 }, settings: { rollouts: 5, topP: 1 } };
    const after = { options: { rollouts: 8 }, settings: { rollouts: 8, topP: 1 } };
    expect(valuesThatDiffer(before, after)).toEqual(['options.rollouts']);
  });

  it('passes over settings that one of the records does not hold', () => {
    expect(valuesThatDiffer({ options: {} }, { options: {}, settings: { topP: 1 } })).toEqual([]);
  });
});
