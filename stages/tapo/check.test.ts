import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeDataset } from '../../src/artifacts/rows.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import type { TapoOptions } from './options.ts';
import { tapoStage } from './stage.ts';

const REWARD = 'export default ({ response, label }) => Number(response.includes(label));';

/** What `fr1 check` tells of triplets before their model is made. */
async function check(options: Partial<TapoOptions>, labels: readonly (readonly [own: string, other: string])[]) {
  const folder = await temporaryFolder();
  mkdirSync(path.join(folder, 'images'));
  writeFileSync(path.join(folder, 'images/x.png'), '');
  const image = 'images/x.png';
  const rows = labels.map(([label, negativeLabel], i) => ({
    ...{ id: `${i}`, anchor: image, positive: image, negative: image, question: 'Which?', label, negativeLabel },
  }));
  await writeDataset(folder, { name: 'dogs', superCategory: 'dog', split: 'train', classes: [] }, rows);
  using context = fakeContext(tapoStage, { data: fakeArtifact('triplet-data', folder), steps: 1, ...options });
  const found: string[] = [];
  const problems: string[] = [];
  await tapoStage.check!({
    name: 'tapo',
    options: { ...context.options, model: null },
    provider: 'cpu',
    signal: context.signal,
    progress: () => undefined,
    problem: (error) => problems.push(error.message),
    found: (message) => found.push(message),
    needsDisk: () => undefined,
  });
  return { found, problems };
}

describe('check of tapo', () => {
  const pairs = [
    ['Collie', 'Border Collie'],
    ['Beagle', 'Collie'],
  ] as const;

  it('tells how many labels the reward takes for another, which only containment does (Q3)', async () => {
    expect(await check({ set: 'reference' }, pairs)).toEqual({
      found: [expect.stringMatching(/^2 triplets, 1 of them also rewarded for the label of their negative/)],
      problems: [],
    });
    expect((await check({}, pairs)).found).toEqual(['2 triplets, each rewarded for its label alone']);
  });

  it('names the row of a label that is never rewarded', async () => {
    const { problems } = await check({}, [['<b>', 'Collie'], ...pairs]);
    expect(problems).toEqual([]);
    const broken = await check({}, [['Collie</answer>', 'Beagle']]);
    expect(broken.problems).toEqual([expect.stringContaining('row "0": the answer "Collie</answer>" is not rewarded')]);
  });

  it("tries a reward function of the user's", async () => {
    const file = path.join(await temporaryFolder(), 'reward.mjs');
    const reward = { formatWeight: 0.1, function: fakeArtifact('files', file) };
    writeFileSync(file, REWARD);
    expect((await check({ reward }, [['Beagle', 'Collie']])).found).toEqual([
      '1 triplets, the first rewarded by your function',
    ]);
    await expect(check({ reward }, pairs)).rejects.toMatchObject({
      message: expect.stringContaining('"Collie" 1, and a wrong one 1'),
    });
  });
});
