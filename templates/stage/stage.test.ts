import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readImageData } from 'fr1/plugin';
import { openTestWorkspace, type TestWorkspace } from 'fr1/plugin/testing';
import stage from './stage.ts';

let workspace: TestWorkspace;
let data: string;

before(async () => {
  workspace = await openTestWorkspace();
  const classes = ['robin', 'wren'];
  const rows = classes.flatMap((label) =>
    [1, 2, 3, 4].map((n) => ({
      id: `${label}-${n}`,
      image: `images/${label}-${n}.png`,
      label,
      question: 'Which bird?',
    })),
  );
  data = await workspace.write('birds', {
    'dataset.json': { name: 'birds', superCategory: 'bird', split: 'train', classes, rows: rows.length },
    'rows.jsonl': rows.map((row) => JSON.stringify(row)).join('\n'),
    ...Object.fromEntries(rows.map((row) => [row.image, new Uint8Array([1, 2, 3])])),
  });
});

after(() => workspace.close());

test('keeps that many images of each class', async () => {
  const run = await workspace.run(stage, { with: { data, perClass: 3 } });
  assert.equal(run.status, 'ran');
  assert.deepEqual(run.metrics, { images: { value: 6 } });
  const { rows } = await readImageData(run.outputs.data.path);
  assert.equal(rows.filter((row) => row.label === 'wren').length, 3);
});

test('keeps the same images for the same seed, and reuses them', async () => {
  const first = await workspace.run(stage, { with: { data, perClass: 1 }, seed: 5 });
  const again = await workspace.run(stage, { with: { data, perClass: 1 }, seed: 5 });
  assert.equal(again.status, 'cached');
  assert.equal(again.outputs.data.digest, first.outputs.data.digest);
});

test('says which class has too few images', async () => {
  const run = await workspace.run(stage, { with: { data, perClass: 5 } });
  assert.equal(run.status, 'failed');
  assert.match(run.error?.message ?? '', /class "robin" has 4 images/);
});
