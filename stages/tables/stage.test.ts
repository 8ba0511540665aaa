import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type SplitPrediction, writePredictions } from '../../src/artifacts/predictions.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import type { TablesOptions } from './options.ts';
import { tablesStage } from './stage.ts';

/** Predictions on test sets of these names, the given share of them right. */
async function predictions(splits: readonly string[], right: number, similarity?: number) {
  const folder = await temporaryFolder();
  const rows = splits.flatMap((split) =>
    (['closed', 'open'] as const).flatMap((mode) =>
      Array.from({ length: 8 }, (_, i): SplitPrediction => {
        const correct = i < right;
        const common = { id: `${i}`, split, mode, label: 'x', output: '', answer: '', correct };
        return { ...common, strictlyCorrect: false, ...(mode === 'open' && similarity && { similarity }) };
      }),
    ),
  );
  await writePredictions(folder, {
    info: {
      version: 1,
      rules: {
        set: 'reference',
        prompts: { closed: 'fine-r1/closed@1', open: 'fine-r1/open@1' },
        optionOrder: 'as-shipped',
        optionSeed: 1,
        standardFrom: 'path',
        openFallback: 'whole-output',
        emptyCarLabel: 'matches-anything',
        maxNewTokens: 2048,
        temperature: 0,
        topP: 1,
        topK: 0,
        repetitionPenalty: 1.05,
      },
      splits: [],
      model: 'sha256:0',
      seed: 1,
    },
    rows,
  });
  return fakeArtifact('predictions', folder);
}

const CATEGORIES = ['aircraft', 'bird', 'car', 'dog', 'flower', 'pet'];
const ALL = CATEGORIES.flatMap((name) => [`${name}-seen`, `${name}-unseen`]);

async function make(options: Partial<TablesOptions>) {
  using context = fakeContext(tablesStage, options);
  const { metrics, tables } = await tablesStage.run(context);
  const file = (name: string) => readFileSync(path.join(context.outputs['tables']!, name), 'utf8');
  return {
    metrics: metrics!,
    tables: tables!,
    markdown: file('table-1.md'),
    csv: file('table-1.csv'),
    json: file('tables.json'),
  };
}

describe('tables', () => {
  it('Q10: puts own rows below those of the paper, with how they were made', async () => {
    const runs = [
      { name: 'ours', predictions: await predictions(ALL, 6, 0.25) },
      { name: 'part', predictions: await predictions(['bird-seen'], 2) },
    ];
    const { metrics, tables, markdown, csv, json } = await make({ runs });
    expect(metrics).toMatchObject({ ours_closed: { value: 0.75 }, ours_similarity: { value: 0.25 } });
    expect(Object.keys(metrics)).not.toContain('part_closed');
    expect(tables.map(({ title }) => title.slice(0, 7))).toEqual(['Table 1', 'Table 2', 'Table 6']);
    expect(tables[0]!.rows.map(([model]) => model)).toEqual([
      ...['paper: Qwen2.5-VL-3B', 'paper: Qwen2.5-VL-7B', 'paper: Fine-R1-3B', 'paper: Fine-R1-7B', 'ours', 'part'],
    ]);
    expect(markdown).toContain('| part |  | 25.00 |  |');
    expect(markdown).toContain('- ours: set reference: closed fine-r1/closed@1');
    expect(csv.split('\r\n')[5]).toBe(`ours,${new Array(15).fill('75.00').join(',')}`);
    expect(JSON.parse(json)).toMatchObject({
      version: 1,
      tables: [{ ours: [{ average: 75 }, { average: null }] }, {}, {}],
    });
  });

  it('shows strict figures and other choices of rows', async () => {
    const runs = [{ name: 'ours', predictions: await predictions(ALL, 6) }];
    expect((await make({ runs, metric: 'strict', paperRows: 'none' })).tables[0]!.rows).toHaveLength(1);
    expect((await make({ runs, paperRows: 'all' })).tables[0]!.rows).toHaveLength(19);
    expect((await make({ runs, metric: 'strict' })).metrics['ours_closed']!.value).toBe(0);
  });

  it('refuses two runs of one name', async () => {
    const given = await predictions(ALL, 6);
    const runs = ['a', 'b', 'a'].map((name) => ({ name, predictions: given }));
    using context = fakeContext(tablesStage, { runs });
    expect(tablesStage.validate!(context.options)).toEqual([
      { pointer: '/runs/2/name', message: 'another run is called "a" too' },
    ]);
  });

  it('refuses test sets that no column is for', async () => {
    const runs = [{ name: 'ours', predictions: await predictions(['seen', 'unseen'], 6) }];
    await expect(make({ runs })).rejects.toMatchObject({
      code: 'DATA_INSUFFICIENT',
      hint: expect.stringContaining('aircraft-seen'),
    });
  });
});
