/** `fr1 fetch`: a model of the Hugging Face hub into the cache where pipelines find it by its id. */
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cachedModel, type HubModel, hubCacheFolder, hubModel } from '../config/hub-cache.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { type CliIo, writeLines } from './io.ts';

/** What a model folder is made of; other formats of the same weights are left alone. */
const WANTED = /^[^/]+\.(json|jinja|txt|safetensors|model)$/;

export async function fetchCommand(id: string, io: CliIo): Promise<number> {
  const model = hubModel(id);
  if (!model) {
    throw new Fr1Error('CLI_ARGUMENTS', `${id} is no id of a model`, {
      hint: 'an id reads owner/name or owner/name@revision, e.g. Qwen/Qwen2.5-VL-3B-Instruct',
    });
  }
  const { repository, revision } = model;
  const cacheDir = hubCacheFolder(io.env);
  const hubUrl = io.env['HF_ENDPOINT'] ?? 'https://huggingface.co';
  const token = io.env['HF_TOKEN'];
  const common = {
    repo: { type: 'model', name: repository },
    revision,
    hubUrl,
    ...(token && { accessToken: token }),
  } as const;
  const { downloadFileToCacheDir, listFiles, modelInfo } = await import('@huggingface/hub');
  try {
    await mkdir(cacheDir, { recursive: true });
    const { sha } = (await modelInfo({ ...common, name: repository, additionalFields: ['sha'] })) as { sha: string };
    const files: { path: string; size: number }[] = [];
    for await (const file of listFiles({ ...common, revision: sha })) {
      if (file.type === 'file' && WANTED.test(file.path)) files.push(file);
    }
    if (!files.some(({ path }) => path === 'config.json')) {
      throw new Fr1Error('MODEL_NOT_FETCHED', `${id} holds no config.json, so it is no model folder`);
    }
    // The configuration comes last: a folder with one is whole.
    files.sort((a, b) => Number(a.path === 'config.json') - Number(b.path === 'config.json'));
    for (const [i, { path, size }] of files.entries()) {
      io.stderr.write(`${i + 1}/${files.length}  ${path}  ${(size / 1e6).toFixed(1)} MB\n`);
      const file = await quietly(() => downloadFileToCacheDir({ ...common, path, revision: sha, cacheDir }));
      const { size: got } = await stat(file);
      if (got !== size) throw new Error(`${path} has ${got} bytes instead of ${size}`);
    }
    await nameRevision(cacheDir, model, sha);
  } catch (cause) {
    if (cause instanceof Fr1Error) throw cause;
    throw new Fr1Error('MODEL_NOT_FETCHED', `${id} cannot be fetched from ${hubUrl}: ${reasonOf(cause)}`, {
      hint: "check the id and the network (HF_ENDPOINT names another server, HF_TOKEN opens closed models); without a network, copy the model's folder and give its path",
      cause,
    });
  }
  writeLines(io.stdout, [cachedModel(model, cacheDir) ?? cacheDir]);
  return 0;
}

/** The library reports each file on the standard output, which is for the result. */
async function quietly<T>(work: () => Promise<T>): Promise<T> {
  const { debug } = console;
  console.debug = () => undefined;
  try {
    return await work();
  } finally {
    console.debug = debug;
  }
}

/** Writes which commit a branch or tag stands for, as the hub's Python library does. */
async function nameRevision(cacheDir: string, { repository, revision }: HubModel, sha: string): Promise<void> {
  if (revision === sha) return;
  const file = join(cacheDir, `models--${repository.replace('/', '--')}`, 'refs', revision);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, sha);
}

/** The innermost reason: fetch hides it below "fetch failed". */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}
