import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readSftData, writeDataset } from '../../src/artifacts/rows.ts';
import type { ImageRow, SftRow } from '../../src/artifacts/types.ts';
import { attributeWords, nameOf } from '../../src/worlds/procedural-birds/species.ts';
import { splitSpecies } from '../../src/worlds/procedural-birds/split.ts';
import { rejectionOf } from '../../src/worlds/procedural-birds/thoughts.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import type { RewriteOptions } from './options.ts';
import { rewriteStage } from './stage.ts';

const SPECIES = splitSpecies(1, 8, 4).seen;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-rewrite-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** One image per species; the classes are the labels after `changes`. */
async function imageData(changes: Readonly<Record<number, Partial<ImageRow>>> = {}): Promise<ImageRow[]> {
  const rows = SPECIES.map(
    (species, i): ImageRow => ({
      id: `row-${i}`,
      image: `images/${i}.png`,
      label: nameOf(species),
      question: 'Which bird is in the image?',
      attributes: attributeWords(species),
      ...changes[i],
    }),
  );
  mkdirSync(path.join(folder, 'images'), { recursive: true });
  for (const row of rows) writeFileSync(path.join(folder, row.image), row.id);
  const classes = rows.map((row) => row.label);
  await writeDataset(folder, { name: 'birds', superCategory: 'bird', split: 'train', classes }, rows);
  return rows;
}

async function rewrite(options: Partial<RewriteOptions> = {}, seed = 1) {
  using context = fakeContext(rewriteStage, { data: fakeArtifact('image-data', folder), ...options }, { seed });
  const { metrics, tables } = await rewriteStage.run(context);
  const output = context.outputs['data']!;
  const chats: SftRow[] = await readSftData(output);
  return {
    chats,
    images: chats.map((chat) => readFileSync(path.join(output, chat.images[0]!), 'utf8')),
    links: statSync(path.join(output, chats[0]!.images[0]!)).nlink,
    rejected: readFileSync(path.join(output, 'rejected.jsonl'), 'utf8'),
    registration: JSON.parse(readFileSync(path.join(output, 'dataset_info.json'), 'utf8')) as Record<string, unknown>,
    counts: [metrics!['accepted']!.value, metrics!['rejected']!.value],
    tables,
    warnings: context.warnings,
  };
}

describe('rewrite', () => {
  it('adds a chat whose prompt offers the label among three others on request', async () => {
    const rows = await imageData();
    const { chats, counts } = await rewrite({ closedPrompts: 'compact' });
    expect(counts).toEqual([16, 0]);
    const places = rows.map(({ label }, i) => {
      const [open, closed] = [chats[2 * i]!, chats[2 * i + 1]!];
      expect(open.messages[0]!.content).toBe('<image>Which bird is in the image?');
      const offered = /^<image>Which bird is in the image\? Options: (.*)\.$/
        .exec(closed.messages[0]!.content)![1]!
        .split(', ');
      expect(new Set(offered).size).toBe(4);
      expect(rejectionOf(closed.messages[1]!.content, label)).toBeNull();
      return offered.indexOf(label);
    });
    expect(Math.min(...places)).toBeGreaterThanOrEqual(0);
    expect(new Set(places).size).toBeGreaterThan(1);
  });

  it('offers other labels of the data for labels that are no species', async () => {
    await imageData(Object.fromEntries(SPECIES.map((_, i) => [i, { label: `Fox ${i}` }])));
    const { chats, counts } = await rewrite({ thoughts: false, closedPrompts: 'compact' });
    expect(counts).toEqual([16, 0]);
    const offered = chats[1]!.messages[0]!.content.split('Options: ')[1]!.replace('.', '').split(', ');
    expect(offered).toContain('Fox 0');
    expect(new Set(offered).size).toBe(4);
  });

  it('writes a true thought for every image, with the image of that row', async () => {
    const rows = await imageData();
    const { chats, images, counts, tables, rejected, links } = await rewrite();
    expect(counts).toEqual([8, 0]);
    expect(tables).toEqual([]);
    expect(rejected).toBe('');
    expect(links).toBe(2);
    expect(images).toEqual(rows.map((row) => row.id));
    chats.forEach((chat, i) => {
      expect(chat.messages[0]).toEqual({ role: 'user', content: '<image>Which bird is in the image?' });
      expect(chat.messages[1]!.role).toBe('assistant');
      expect(rejectionOf(chat.messages[1]!.content, rows[i]!.label)).toBeNull();
    });
  });

  it('writes answers only when thoughts are off', async () => {
    const rows = await imageData();
    const { chats } = await rewrite({ thoughts: false });
    expect(chats.map((chat) => chat.messages[1]!.content)).toEqual(rows.map((row) => `<answer>${row.label}</answer>`));
  });

  it('leaves out rows that it cannot write truthfully about, and says why', async () => {
    const wrong = { ...attributeWords(SPECIES[1]!), crown: 'pink' };
    const { attributes: _, ...bare } = (await imageData())[2]!;
    await imageData({ 0: { label: 'Dodo' }, 1: { attributes: wrong } });
    const rowsFile = path.join(folder, 'rows.jsonl');
    const lines = readFileSync(rowsFile, 'utf8').split('\n');
    lines[2] = JSON.stringify(bare);
    writeFileSync(rowsFile, lines.join('\n'));

    const { counts, rejected, tables, warnings, chats } = await rewrite();
    expect(counts).toEqual([5, 3]);
    expect(chats.length).toBe(5);
    expect(warnings).toEqual(['3 of 8 rows were rejected']);
    const reasons = rejected
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { reason: string }).reason);
    expect(reasons[0]).toBe('its label is no species of procedural-birds');
    expect(reasons[1]).toMatch(/^its crown is "pink", but that of/);
    expect(reasons[2]).toBe('has no attributes to write from');
    expect(tables![0]!.rows.map((row) => row[0])).toEqual(['row-0', 'row-1', 'row-2']);
  });

  it('fails when nothing is accepted', async () => {
    await imageData(Object.fromEntries(SPECIES.map((_, i) => [i, { label: `Dodo ${i}` }])));
    await expect(rewrite()).rejects.toMatchObject({ code: 'DATA_INSUFFICIENT' });
  });

  it('is fixed by its seed', async () => {
    await imageData();
    const [first, second, other] = [await rewrite(), await rewrite(), await rewrite({}, 2)];
    expect(second.chats).toEqual(first.chats);
    expect(other.chats).not.toEqual(first.chats);
  });

  it('registers the chats for LLaMA-Factory', async () => {
    await imageData();
    expect((await rewrite()).registration['fr1']).toMatchObject({ file_name: 'data.json', formatting: 'sharegpt' });
  });
});
