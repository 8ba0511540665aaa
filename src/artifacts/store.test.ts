import { existsSync } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { readManifest } from './manifest.ts';
import { ArtifactStore, hexOf } from './store.ts';

let folder: string;

beforeEach(async () => {
  folder = await temporaryFolder();
});

/** A new object each time: a store remembers what it has proven, another process does not. */
const openStore = () => new ArtifactStore(join(folder, 'store'), join(folder, 'trash'));

async function makeOutput(name: string, files: Record<string, string>): Promise<string> {
  const directory = join(folder, 'work', name);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(directory, path, '..'), { recursive: true });
    await writeFile(join(directory, path), content);
  }
  return directory;
}

describe('ArtifactStore', () => {
  it('moves a directory under its digest', async () => {
    const directory = await makeOutput('a', { 'rows.jsonl': '{}\n', 'images/one.png': 'png' });
    const { digest, files } = await openStore().commit(directory);
    expect(files.map((file) => file.path)).toEqual(['images/one.png', 'rows.jsonl']);
    const path = openStore().pathOf(digest);
    expect(await readFile(join(path, 'images', 'one.png'), 'utf8')).toBe('png');
    await expect(readdir(directory)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await openStore().inspect(digest)).toMatchObject({ state: 'intact', path });
  });

  it('gives equal content an equal digest, whatever its times, and stores it once', async () => {
    const store = openStore();
    const first = await store.commit(await makeOutput('a', { x: '1', y: '2' }));
    const again = await makeOutput('b', { y: '2', x: '1' });
    await utimes(join(again, 'x'), 1, 1);
    const second = await store.commit(again);
    expect(second.digest).toBe(first.digest);
    expect(await readdir(join(folder, 'store'))).toHaveLength(2);
  });

  it.each([
    ['another name', { z: '1' }],
    ['another content', { x: '2' }],
    ['one more file', { x: '1', y: '' }],
    ['another folder', { 'a/x': '1' }],
  ])('gives %s another digest', async (_, files) => {
    const before = await readManifest(await makeOutput('a', { x: '1' }));
    const after = await readManifest(await makeOutput('b', files));
    expect(after.digest).not.toBe(before.digest);
  });

  it('stores equal content once that arrives at the same moment', async () => {
    const names = ['a', 'b', 'c', 'd'];
    const outputs = await Promise.all(names.map((name) => makeOutput(name, { x: '1', 'deep/y': '2' })));
    const store = openStore();
    const manifests = await Promise.all(outputs.map((output) => store.commit(output)));
    expect(new Set(manifests.map(({ digest }) => digest)).size).toBe(1);
    expect(await store.inspect(manifests[0]!.digest)).toMatchObject({ state: 'intact' });
    expect(outputs.filter((output) => existsSync(output))).toEqual([]);
  });

  it('refuses an empty directory and a link', async () => {
    const empty = join(folder, 'work', 'empty');
    await mkdir(empty, { recursive: true });
    await expect(openStore().commit(empty)).rejects.toMatchObject({ code: 'ARTIFACT_INVALID' });
    const linked = await makeOutput('linked', { x: '1' });
    await symlink(join(linked, 'x'), join(linked, 'y'));
    await expect(openStore().commit(linked)).rejects.toMatchObject({ code: 'ARTIFACT_INVALID' });
  });

  it.each<[string, (path: string) => Promise<void>, RegExp]>([
    ['a longer file', (path) => appendFile(join(path, 'x'), '!'), /x has 4 bytes instead of 3/],
    ['a changed file of the same size', (path) => writeFile(join(path, 'x'), 'xxy'), /the content of x has changed/],
    ['a missing file', (path) => rm(join(path, 'x')), /x is missing/],
    ['a file too many', (path) => writeFile(join(path, 'z'), ''), /z does not belong to it/],
    ['a missing manifest', (path) => rm(`${path}.manifest.json`), /manifest is missing/],
    ['an unreadable manifest', (path) => writeFile(`${path}.manifest.json`, '{'), /manifest is missing or unreadable/],
  ])('detects %s', async (_, damage, reason) => {
    const { digest } = await openStore().commit(await makeOutput('a', { x: 'xxx', 'deep/y': 'y' }));
    await damage(openStore().pathOf(digest));
    const found = await openStore().inspect(digest);
    expect(found).toMatchObject({ state: 'damaged', reason: expect.stringMatching(reason) });
  });

  it('accepts new times on unchanged content and remembers them', async () => {
    const { digest } = await openStore().commit(await makeOutput('a', { x: 'xxx' }));
    const path = openStore().pathOf(digest);
    await utimes(join(path, 'x'), 100, 100);
    expect(await openStore().inspect(digest)).toMatchObject({ state: 'intact' });
    const manifest = JSON.parse(await readFile(`${path}.manifest.json`, 'utf8'));
    expect(manifest.files[0].mtimeMs).toBe(100_000);
  });

  it('finds a change whose time was set back', async () => {
    const { digest } = await openStore().commit(await makeOutput('a', { x: 'xxx' }));
    const file = join(openStore().pathOf(digest), 'x');
    await utimes(file, 100, 100);
    await openStore().inspect(digest);
    await writeFile(file, 'xyx');
    await utimes(file, 100, 100);
    expect(await openStore().inspect(digest)).toMatchObject({ state: 'damaged' });
  });

  it('finds what the disk lost by itself in full only, and afterwards always', async () => {
    const { digest } = await openStore().commit(await makeOutput('a', { x: 'xxx' }));
    const path = openStore().pathOf(digest);
    await writeFile(join(path, 'x'), 'xyx');
    // The manifest as if no write had touched the file.
    const { mtimeMs, ctimeMs } = await stat(join(path, 'x'));
    const manifest = JSON.parse(await readFile(`${path}.manifest.json`, 'utf8'));
    Object.assign(manifest.files[0], { mtimeMs, ctimeMs });
    await writeFile(`${path}.manifest.json`, JSON.stringify(manifest));

    expect(await openStore().inspect(digest)).toMatchObject({ state: 'intact' });
    expect(await openStore().inspect(digest, { full: true })).toMatchObject({ state: 'damaged' });
    await openStore().distrust(digest);
    expect(await openStore().inspect(digest)).toMatchObject({ state: 'damaged' });
  });

  it('replaces a damaged artifact when the same content is committed again', async () => {
    const { digest } = await openStore().commit(await makeOutput('a', { x: 'xxx' }));
    await writeFile(join(openStore().pathOf(digest), 'x'), 'bad');
    await openStore().commit(await makeOutput('b', { x: 'xxx' }));
    expect(await readFile(join(openStore().pathOf(digest), 'x'), 'utf8')).toBe('xxx');
  });

  it('counts a manifest without its directory as nothing, and cleans it up', async () => {
    const store = openStore();
    const { digest } = await store.commit(await makeOutput('a', { x: 'xxx' }));
    // What a crash between the two steps of a commit leaves.
    await rename(store.pathOf(digest), join(folder, 'elsewhere'));
    await writeFile(join(folder, 'store', '.tmp-something'), '{"half":');
    expect(await openStore().inspect(digest)).toEqual({ state: 'missing' });
    await openStore().clean();
    expect(await readdir(join(folder, 'store'))).toEqual([]);
  });

  it('names artifacts by 64 hexadecimal digits and nothing else', () => {
    expect(() => hexOf('sha256:../../etc')).toThrow(TypeError);
    expect(hexOf(`sha256:${'a'.repeat(64)}`)).toBe('a'.repeat(64));
  });
});
