import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type SplitPrediction, writePredictions } from '../../src/artifacts/predictions.ts';
import type { Artifact, EvaluationInfo } from '../../src/artifacts/types.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { compareStage } from './stage.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-compare-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const INFO: EvaluationInfo = {
  version: 1,
  rules: {
    prompts: { closed: 'compact/closed@1', open: 'compact/open@1' },
    optionOrder: 'shuffled',
    optionSeed: 1,
    standardFrom: 'super-category',
    openFallback: 'none',
    emptyCarLabel: 'whole-label',
    maxNewTokens: 100,
    temperature: 0,
    topP: 1,
    topK: 0,
    repetitionPenalty: 1,
  },
  splits: [],
  model: 'sha256:0',
  seed: 1,
};

const MODES = ['closed', 'open'] as const;
type Right = (split: string, mode: SplitPrediction['mode'], index: number) => boolean;

/** 100 seen and 50 unseen items in both modes; right items are strictly right when their number is even. */
function predictionRows(right: Right): SplitPrediction[] {
  const sizes = { seen: 100, unseen: 50 };
  return Object.entries(sizes).flatMap(([split, size]) =>
    MODES.flatMap((mode) =>
      Array.from({ length: size }, (_, index) => {
        const correct = right(split, mode, index);
        return {
          id: `${split}-${index}`,
          split,
          mode,
          label: 'Robin',
          output: '',
          answer: null,
          correct,
          strictlyCorrect: correct && index % 2 === 0,
        };
      }),
    ),
  );
}

async function run(name: string, rows: readonly SplitPrediction[], info: EvaluationInfo = INFO): Promise<Artifact> {
  const target = path.join(folder, name);
  mkdirSync(target, { recursive: true });
  await writePredictions(target, { info, rows });
  return fakeArtifact('predictions', target);
}

const listOf = (runs: Readonly<Record<string, Artifact>>) =>
  Object.entries(runs).map(([name, predictions]) => ({ name, predictions }));

describe('compareStage', () => {
  it('reports every model and each difference from the one before', async () => {
    const runs = {
      base: await run(
        'base',
        predictionRows((_, __, i) => i < 20),
      ),
      sft: await run(
        'sft',
        predictionRows((_, mode, i) => (mode === 'closed' ? i < 30 : i >= 10 && i < 40)),
      ),
      tapo: await run(
        'tapo',
        predictionRows((split, mode, i) => (split === 'seen' && mode === 'closed' ? i < 45 : i < 30)),
      ),
    };
    using context = fakeContext(compareStage, { runs: listOf(runs) });
    const { metrics, tables } = await compareStage.run(context);

    expect(metrics!['base_seen_closed']).toMatchObject({ value: 0.2, n: 100 });
    expect(metrics!['base_closed']!.n).toBe(150);
    expect(metrics!['base_closed']!.value).toBeCloseTo(0.3, 12);
    // sft against base, closed: seen 0.30 - 0.20, unseen 0.60 - 0.40; 20 items won, none lost: p = 2 / 2^20.
    expect(metrics!['sft_vs_base_closed']!.value).toBeCloseTo(0.15, 12);
    expect(metrics!['sft_vs_base_closed_p']!.value / (2 / 2 ** 20)).toBeCloseTo(1, 9);
    // tapo against sft, seen closed: 15 won, none lost: p = 2 / 2^15.
    expect(metrics!['tapo_vs_sft_seen_closed']!.value).toBeCloseTo(0.15, 12);
    expect(metrics!['tapo_vs_sft_seen_closed']!.low).toBeGreaterThan(0.05);
    expect(metrics!['tapo_vs_sft_seen_closed_p']!.value / (2 / 2 ** 15)).toBeCloseTo(1, 9);
    expect(metrics!['tapo_vs_sft_unseen_closed']).toMatchObject({ value: 0 });
    // Agreement on every item of a small test does not prove that the two are equal.
    expect(metrics!['tapo_vs_sft_unseen_closed']!.low).toBeLessThan(-0.01);
    expect(metrics!['tapo_vs_sft_unseen_closed']!.high).toBeGreaterThan(0.01);
    expect(metrics!['tapo_vs_sft_unseen_closed_p']!.value).toBe(1);
    expect(metrics!['tapo_vs_base_closed']).toBeUndefined();

    expect(tables!.map(({ columns }) => columns.slice(0, 4))).toEqual([
      ['model', 'seen', 'unseen', 'mean'],
      ['model', 'seen', 'unseen', 'mean'],
      ['models', 'test', 'points', '95 % interval'],
    ]);
    expect(tables![0]!.rows.map(([name]) => name)).toEqual(['base', 'sft', 'tapo']);
    expect(tables![0]!.rows[0]![1]).toMatch(/^20\.0 \[\d+\.\d, \d+\.\d\]$/);
    const open = tables![2]!.rows.find(([pair, test]) => pair === 'sft vs base' && test === 'seen open')!;
    // Ten items lost (0-9), twenty won (20-39): P(X <= 10), X ~ Binomial(30, 1/2), doubled, with CPython fractions.
    expect(open).toEqual(['sft vs base', 'seen open', '+10.0', open[3], '0.0987', '10', '20']);
    const file = JSON.parse(readFileSync(path.join(context.outputs['metrics']!, 'metrics.json'), 'utf8'));
    expect(file).toEqual({ version: 1, metrics });
  });

  it('keeps its tables within 80 columns', async () => {
    const perfect = predictionRows(() => true);
    using context = fakeContext(compareStage, {
      runs: listOf({ base: await run('a', perfect), tapo: await run('b', perfect) }),
    });
    const { tables } = await compareStage.run(context);
    for (const { columns, rows } of tables!) {
      const widths = columns.map((column, i) => Math.max(column.length, ...rows.map((row) => row[i]!.length)));
      expect(widths.reduce((sum, width) => sum + width + 2, -2)).toBeLessThanOrEqual(80);
    }
  });

  it('compares strict hits on request', async () => {
    const runs = {
      base: await run(
        'base',
        predictionRows((_, __, i) => i < 20),
      ),
    };
    using context = fakeContext(compareStage, { runs: listOf(runs), metric: 'strict' });
    const { metrics, tables } = await compareStage.run(context);
    expect(metrics!['base_seen_closed']!.value).toBe(0.1);
    expect(tables!.map(({ title }) => title)).toEqual([
      'Closed-world accuracy, strict, % [95 % interval]',
      'Open-world accuracy, strict, % [95 % interval]',
    ]);
  });

  const refusal = async (rows: readonly SplitPrediction[], info: EvaluationInfo = INFO) => {
    const runs = {
      one: await run(
        'one',
        predictionRows(() => true),
      ),
      two: await run('two', rows, info),
    };
    using context = fakeContext(compareStage, { runs: listOf(runs) });
    return compareStage.run(context).then(
      () => 'accepted',
      (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
    );
  };

  it('compares a contrastive model with one that writes, on the same items with options in any order', async () => {
    const info = { ...INFO, rules: { ...INFO.rules, method: 'contrastive', prompts: { closed: 'a {}' } } } as const;
    const offering = (options: readonly string[]) => predictionRows(() => true).map((row) => ({ ...row, options }));
    const written = await run('written', offering(['Robin', 'Wren']));
    const shown = await run('shown', offering(['Wren', 'Robin']), info);
    using context = fakeContext(compareStage, { runs: listOf({ written, shown }) });
    const { metrics } = await compareStage.run(context);
    expect(metrics!['shown_vs_written_closed']).toMatchObject({ value: 0 });
    const other = await run('other', offering(['Wren', 'Gull']), info);
    using differing = fakeContext(compareStage, { runs: listOf({ written, other }) });
    await expect(compareStage.run(differing)).rejects.toMatchObject({ code: 'PREDICTIONS_DIFFER' });
  });

  it('refuses runs under different prompts', async () => {
    const info = { ...INFO, rules: { ...INFO.rules, prompts: { closed: 'fine-r1/closed@1' } } };
    expect(
      await refusal(
        predictionRows(() => true),
        info,
      ),
    ).toMatch(
      /^PREDICTIONS_DIFFER: "one" and "two" cannot be compared: "prompts" is .*compact\/closed@1.* and .*fine-r1\/closed@1/,
    );
  });

  it('refuses runs on different items', async () => {
    const rows = predictionRows(() => true);
    expect(await refusal(rows.slice(1))).toMatch(/one has 300 rows and the other 299/);
    expect(await refusal(rows.map((row, i) => (i === 7 ? { ...row, id: 'other' } : row)))).toMatch(
      /row 8 is seen closed seen-7 \(Robin\) for one and seen closed other \(Robin\) for the other/,
    );
  });

  it('names the row of predictions that cannot be read', async () => {
    const rows = predictionRows(() => true).map((row, i) => (i === 2 ? { ...row, correct: 'yes' } : row));
    expect(await refusal(rows as unknown as SplitPrediction[])).toBe(
      'DATA_ROW_INVALID: row "seen-2": "correct" is neither true nor false',
    );
  });
});
