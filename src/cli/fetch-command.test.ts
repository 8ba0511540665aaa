/** Against a server of this test that answers as the hub does. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { cachedModel, hubModel } from '../config/hub-cache.ts';
import { localInput } from '../config/local-input.ts';
import { openCheckpoint } from '../engine/weights/checkpoint.ts';

const SHA = 'a'.repeat(40);
const files = new Map<string, Buffer>();
let server: Server;
let endpoint: string;
let asked: string[];

beforeAll(async () => {
  const source = fixture('qwen2_5_vl', 'tiny_tied');
  for (const name of ['config.json', 'generation_config.json', 'model.safetensors']) {
    files.set(name, readFileSync(join(source, name)));
  }
  files.set('pytorch_model.bin', Buffer.from('the same weights in a format that is not read'));
  const entry = (path: string) => {
    const data = files.get(path)!;
    return { type: 'file', path, size: data.length, oid: createHash('sha1').update(data).digest('hex') };
  };
  server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, 'http://localhost');
    asked.push(pathname);
    const json = (value: unknown) => {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(value));
    };
    const file = files.get(pathname.split(`/resolve/${SHA}/`)[1] ?? '');
    if (!pathname.includes('owner/tiny')) {
      response.statusCode = 404;
      json({ error: 'Repository not found' });
    } else if (pathname.includes('/revision/')) json({ _id: '1', id: 'owner/tiny', sha: SHA });
    else if (pathname.includes('/tree/')) json([...files.keys()].map(entry));
    else if (pathname.includes('/paths-info/')) {
      let body = '';
      request.on('data', (part) => {
        body += part;
      });
      request.on('end', () => json((JSON.parse(body) as { paths: string[] }).paths.map(entry)));
    } else if (file) {
      const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '');
      const [start, end] = range
        ? [Number(range[1]), Math.min(Number(range[2]), file.length - 1)]
        : [0, file.length - 1];
      response.statusCode = range ? 206 : 200;
      response.setHeader('etag', '"e"');
      if (range) response.setHeader('content-range', `bytes ${start}-${end}/${file.length}`);
      response.end(file.subarray(start, end + 1));
    } else {
      response.statusCode = 500;
      response.end();
    }
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

let cache: string;
beforeEach(async () => {
  cache = await temporaryFolder();
  asked = [];
});

const fetchModel = (id: string, env: Record<string, string> = {}) =>
  callCli(cache, ['fetch', id], { env: { HF_HUB_CACHE: cache, HF_ENDPOINT: endpoint, ...env } });

describe('fr1 fetch', () => {
  it('puts the files of a model where its id is looked up, and none of other formats', async () => {
    const { exitCode, stdout, stderr } = await fetchModel('owner/tiny');
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    const folder = cachedModel({ repository: 'owner/tiny', revision: 'main' }, cache);
    expect(stdout.trim()).toBe(folder);
    expect((await readdir(folder!)).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
    expect(openCheckpoint(folder!).readFloat32('model.norm.weight').shape).toEqual([64]);
    const before = asked.length;
    expect((await fetchModel('owner/tiny')).exitCode).toBe(0);
    expect(asked.slice(before).filter((path) => path.includes('/resolve/'))).toEqual([]);
  });

  it('says why a model cannot be fetched', async () => {
    expect(await fetchModel('owner/none')).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('owner/none'),
    });
    const offline = await fetchModel('owner/tiny', { HF_ENDPOINT: 'http://127.0.0.1:65534' });
    expect(offline).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/MODEL_NOT_FETCHED[\s\S]*ECONNREFUSED/),
    });
    expect(await fetchModel('tiny')).toMatchObject({ exitCode: 2 });
  });
});

describe('a model by its id', () => {
  it('is the folder in the cache, unless a folder of that name lies beside the pipeline', async () => {
    const snapshot = join(cache, 'models--owner--tiny', 'snapshots', SHA);
    await mkdir(snapshot, { recursive: true });
    await cp(fixture('qwen2_5_vl', 'tiny_tied', 'config.json'), join(snapshot, 'config.json'));
    await mkdir(join(cache, 'models--owner--tiny', 'refs'));
    await writeFile(join(cache, 'models--owner--tiny', 'refs', 'main'), SHA);
    expect(cachedModel(hubModel('owner/tiny')!, cache)).toBe(snapshot);
    expect(cachedModel(hubModel(`owner/tiny@${SHA}`)!, cache)).toBe(snapshot);
    expect(cachedModel(hubModel('owner/tiny@v2')!, cache)).toBeUndefined();
    expect(await readFile(join(snapshot, 'config.json'), 'utf8')).toContain('qwen2_5_vl');
  });

  it('that is not there is told with the way to get it, without touching the network', () => {
    expect(localInput('owner/absent', ['checkpoint'], cache)).toMatchObject({
      problem: 'INPUT_MISSING',
      hint: expect.stringContaining('`fr1 fetch owner/absent` downloads it'),
    });
    expect(asked).toEqual([]);
    for (const path of ['../models/x', './a/b', '/a/b', 'a/b/c', 'a', 'a/b@../c']) expect(hubModel(path)).toBeNull();
  });
});
