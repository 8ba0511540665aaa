import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { PluginLoader } from './load-plugin.ts';

const STAGE = (kind: string, extra = '') => `
import { defineStage } from 'fr1/plugin';
${extra}
export default defineStage({
  kind: '${kind}', summary: 'Does.', version: 1,
  schema: { type: 'object', properties: {}, additionalProperties: false },
  outputs: {}, run: async () => ({}),
});
`;

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

async function write(name: string, text: string): Promise<void> {
  await mkdir(dirname(join(folder, name)), { recursive: true });
  await writeFile(join(folder, name), text);
}

const load = (uses: string) => new PluginLoader().load(uses, folder);
const codeOf = async (uses: string) => (await load(uses))?.origin?.code;

describe('PluginLoader', () => {
  it('loads TypeScript with types, enums and relative imports', async () => {
    await write(
      'greet.ts',
      STAGE('greet', `import { Tone } from './tone.ts'; const tone: Tone = Tone.Kind; void tone;`),
    );
    await write('tone.ts', `export enum Tone { Kind = 'kind' }`);
    expect(await load('./greet.ts')).toMatchObject({ kind: 'greet', origin: { uses: './greet.ts' } });
  });

  it('takes stage.ts of a folder, else its main entry', async () => {
    await write('greet/stage.ts', STAGE('source'));
    await write('greet/package.json', '{ "main": "./dist/stage.js" }');
    await write('greet/dist/stage.js', STAGE('built'));
    await write('built/package.json', '{ "type": "module", "exports": { ".": { "default": "./out/main.js" } } }');
    await write('built/out/main.js', STAGE('built'));
    expect(await load('./greet')).toMatchObject({ kind: 'source' });
    expect(await load('./built')).toMatchObject({ kind: 'built', outputs: {} });
  });

  it('loads a package and its subpaths from node_modules, and knows its version', async () => {
    const manifest = { name: '@me/stages', version: '1.2.3', type: 'module', exports: { './blur': './blur.js' } };
    await write('node_modules/@me/stages/package.json', JSON.stringify(manifest));
    await write('node_modules/@me/stages/blur.js', STAGE('blur'));
    expect(await load('@me/stages/blur')).toMatchObject({ kind: 'blur', origin: { code: '@me/stages@1.2.3' } });
  });

  it('has another code when a file that counts has changed, and no other', async () => {
    await write('greet/stage.ts', STAGE('greet', `import '../shared.ts';`));
    await write('greet/words.txt', 'hello');
    await write('shared.ts', 'export const shared = 1;');
    const before = await codeOf('./greet');
    await write('greet/README.md', 'read me');
    await write('greet/stage.test.ts', 'test');
    await write('greet/dist/stage.js', 'built');
    expect(await codeOf('./greet')).toBe(before);
    await write('greet/words.txt', 'goodbye');
    const after = await codeOf('./greet');
    expect(after).not.toBe(before);
    await write('shared.ts', 'export const shared = 2;');
    expect(await codeOf('./greet')).not.toBe(after);
  });

  it('counts a shared module to each plugin that loads it', async () => {
    await write('a.ts', STAGE('a', `import './shared.ts';`));
    await write('b.ts', STAGE('b', `import './shared.ts';`));
    await write('shared.ts', 'export const shared = 1;');
    const loader = new PluginLoader();
    await loader.load('./a.ts', folder);
    const before = (await loader.load('./b.ts', folder))?.origin?.code;
    await write('shared.ts', 'export const shared = 2;');
    expect(await codeOf('./b.ts')).not.toBe(before);
  });

  it('knows nothing of a word that is neither path nor package', async () => {
    expect(await load('datset')).toBeUndefined();
    expect(await load('not a name')).toBeUndefined();
    expect(await load('fs')).toBeUndefined();
  });

  it.each([
    ['./gone.ts', 'PLUGIN_MISSING', 'paths start at'],
    ['./greet', 'PLUGIN_MISSING', 'did you mean "./greet.ts"?'],
    ['greet.ts', 'PLUGIN_MISSING', 'did you mean the path "./greet.ts"?'],
    ['fr1-gone', 'PLUGIN_MISSING', 'npm install fr1-gone'],
    ['./data.csv', 'PLUGIN_INVALID', 'use `shell`'],
    ['./empty', 'PLUGIN_INVALID', 'stage.ts'],
  ])('refuses %s with %s', async (uses, code, hint) => {
    await write('greet.ts', STAGE('greet'));
    await write('data.csv', '');
    await write('empty/words.txt', '');
    await expect(load(uses)).rejects.toMatchObject({ code, hint: expect.stringContaining(hint) });
  });

  it.each([
    ['that is no module', 'export default {{', 'cannot be loaded'],
    ['that throws', 'throw new Error("not today")', 'not today'],
    ['that lacks a package', 'import x from "fr1-no-such-package"; export default x', 'Cannot find'],
    ['that exports nothing', 'export const stage = 1', 'exports no stage'],
    ['with a wrong part', STAGE('greet').replace('summary', 'sumary'), '"sumary" is no part of a stage (did you mean'],
    ['with a bad name', STAGE('Greet Me'), '"kind" must be a name'],
    [
      'with a type that is none',
      STAGE('greet').replace('outputs: {}', 'outputs: { a: { type: "image" } }'),
      'image-data',
    ],
    [
      'with a bad schema',
      STAGE('greet').replace('properties: {}', 'properties: { a: { type: "strng" } }'),
      'the plugin "./bad.ts" exports no valid stage: "schema" at /properties/a/type: "strng" is no type (did you mean "string"?)',
    ],
  ])('refuses a module %s', async (_what, text, message) => {
    await write('bad.ts', text);
    await expect(load('./bad.ts')).rejects.toMatchObject({
      code: 'PLUGIN_INVALID',
      message: expect.stringContaining(message),
    });
  });
});
