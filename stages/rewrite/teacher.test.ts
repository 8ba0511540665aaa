import { appendFileSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readSftData, writeDataset } from '../../src/artifacts/rows.ts';
import type { ImageRow } from '../../src/artifacts/types.ts';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import { scoreResponse } from '../../src/methods/reward.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { goodThought, startTeacherServer, type TeacherServerSettings } from '../../test/helpers/teacher-server.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { writeImage } from '../testing/images.ts';
import { leaseOf, writeSquare, writeTinyModel } from '../testing/tiny-model.ts';
import { nativeTeacher } from './native-teacher.ts';
import type { RewriteOptions } from './options.ts';
import { rewriteStage } from './stage.ts';

const KEY = 'sk-secret-0123456789';
const LABELS = ['Red Finch', 'Green Finch', 'Blue Finch', 'Red Kite'];

let data: string;
beforeEach(async () => {
  data = await temporaryFolder();
  vi.stubEnv('FR1_TEST_KEY', KEY);
  const rows = LABELS.map(
    (label, i): ImageRow => ({ id: `row-${i}`, image: `images/${i}.png`, label, question: 'Which bird is it?' }),
  );
  for (const { image } of rows) await writeImage(path.join(data, image), image);
  await writeDataset(data, { name: 'birds', superCategory: 'bird', split: 'train', classes: LABELS }, rows);
});
afterEach(() => vi.unstubAllEnvs());

async function rewrite(
  server: { readonly url: string },
  options: Partial<RewriteOptions> = {},
  state?: string,
  signal?: AbortSignal,
) {
  using context = fakeContext(
    rewriteStage,
    {
      data: fakeArtifact('image-data', data),
      teacher: { kind: 'openai', baseUrl: server.url, model: 'bird-teacher', apiKeyEnv: 'FR1_TEST_KEY' },
      requests: { timeoutSeconds: 600, concurrency: 3, inputPrice: 2, outputPrice: 8 },
      captions: 2,
      ...options,
    },
    { ...(state !== undefined && { state }), ...(signal && { signal }) },
  );
  const { metrics, tables } = await rewriteStage.run(context);
  const output = context.outputs['data']!;
  const read = (name: string) => readFileSync(path.join(output, name), 'utf8');
  return {
    chats: await readSftData(output),
    metrics: Object.fromEntries(Object.entries(metrics!).map(([name, { value }]) => [name, value])),
    tables: tables!,
    calls: read('calls.jsonl'),
    rejected: read('rejected.jsonl'),
    told: [...context.messages, ...context.warnings].join('\n'),
  };
}

/** Texts of `thoughtAbout` for one label; a good thought for the others. */
const about =
  (label: string, ...texts: readonly (string | null)[]): TeacherServerSettings['thoughtAbout'] =>
  (asked, attempt) =>
    asked === label ? (texts[Math.min(attempt, texts.length - 1)] ?? null) : null;

describe('rewrite with an OpenAI-compatible teacher', () => {
  it('writes a checked chat for every row and counts calls, tokens and cost', async () => {
    await using server = await startTeacherServer();
    const { chats, metrics } = await rewrite(server);
    expect(metrics).toEqual({
      accepted: 4,
      rejected: 0,
      resampled: 0,
      calls: 12,
      rememberedCalls: 0,
      inputTokens: 1200,
      outputTokens: 120,
      cost: (1200 * 2 + 120 * 8) / 1e6,
    });
    expect(server.answered).toBe(12);
    expect(server.keys).toEqual(new Set([`Bearer ${KEY}`]));
    for (const [i, { messages, images }] of chats.entries()) {
      expect(images).toEqual([`images/${i}.png`]);
      expect(messages[0]).toEqual({ role: 'user', content: '<image>Which bird is it?' });
      expect(scoreResponse(messages[1]!.content, LABELS[i]!)).toMatchObject({ accuracy: 1, format: 1 });
      expect(messages[1]!.content).toContain(`- ${LABELS[i]}: bill and tail agree.`);
    }
  });

  it('selects concepts in the space of a text model, and asks for thoughts with these', async () => {
    await using server = await startTeacherServer();
    const model = fakeArtifact('files', fixture('tiny_clip', 'model'));
    const words = await rewrite(server, { captions: 3, concepts: 4 });
    const embedded = await rewrite(server, { captions: 3, concepts: 4, conceptSelection: { by: 'embedding', model } });
    expect(embedded.metrics).toMatchObject({ accepted: 4, calls: 16 });
    expect(embedded.told).toMatch(/concepts are selected with model@/);
    const thoughtsOf = ({ calls }: typeof words) => calls.split('\n').filter((line) => line.includes(' thought '));
    expect(thoughtsOf(embedded)).not.toEqual(thoughtsOf(words));
  });

  it('Q1: shuffles the candidates with what is said about them, or puts the label first as most of the released thoughts', async () => {
    await using server = await startTeacherServer();
    const places = (chats: Awaited<ReturnType<typeof rewrite>>['chats']) =>
      chats.map(({ messages }, i) => {
        const listed = [...messages[1]!.content.matchAll(/^\d\. (.*)$/gm)].map(([, name]) => name);
        const compared = [...messages[1]!.content.matchAll(/^- ([^:]*):/gm)].map(([, name]) => name);
        expect(compared).toEqual(listed);
        return listed.indexOf(LABELS[i]!);
      });
    expect(new Set(places((await rewrite(server)).chats)).size).toBeGreaterThan(1);
    expect(places((await rewrite(server, { candidateOrder: 'label-first' })).chats)).toEqual([0, 0, 0, 0]);
  });

  it('gets through failures, broken and silent connections and 429s, and tells no key', async () => {
    await using server = await startTeacherServer({ failing: 0.6 });
    const { metrics, told, calls } = await rewrite(server, { requests: { timeoutSeconds: 1, retries: 40 } });
    expect(metrics).toMatchObject({ accepted: 4, calls: 12 });
    expect(server.requests.length).toBeGreaterThan(14);
    expect(told).toMatch(/a request is repeated/);
    expect(told + calls).not.toContain(KEY);
  });

  it('says why no server answers', async () => {
    const server = await startTeacherServer();
    await server[Symbol.asyncDispose]();
    await expect(rewrite(server, { requests: { retries: 0 } })).rejects.toMatchObject({
      code: 'TEACHER_UNREACHABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });

  const wrong = (change: (text: string) => string) => change(goodThought('Red Finch'));
  it.each([
    [
      'another prediction',
      wrong((t) => t.replace('<prediction>Red Finch', '<prediction>Red Kite')),
      /is not the label/,
    ],
    ['a label that is no candidate', wrong((t) => t.replaceAll('- Red Finch', '- House Finch')), /not among/],
    ['a missing part', wrong((t) => t.replace(/<comparison>[\s\S]*<.comparison>/, '')), /<comparison> is there 0/],
    ['an empty part', wrong((t) => t.replace(/<analysis>[\s\S]*<.analysis>/, '<analysis> </analysis>')), /is empty/],
    ['a repeated part', wrong((t) => `${t}<prediction>Red Finch</prediction>`), /2 times/],
    ['a tag inside', wrong((t) => t.replace('The bird', '<think>The bird')), /a part holds a tag/],
    ['another script', wrong((t) => t.replace('The bird', 'The 鸟')), /another script/],
    ['a candidate without remark', wrong((t) => t.replace('- Marsh Wren: too small.\n', '')), /take up each/],
    ['a repeated candidate', wrong((t) => t.replace('- Marsh Wren\n', '- grey gull\n')), /twice/],
    ['five candidates', wrong((t) => t.replace('<options>', '<options>\n- A\n- B')), /more than 4/],
  ])('rejects %s and says why', async (_, text, reason) => {
    await using server = await startTeacherServer({ thoughtAbout: about('Red Finch', text) });
    const { metrics, rejected, tables } = await rewrite(server, { attempts: 2 });
    expect(metrics).toMatchObject({ accepted: 3, rejected: 1, resampled: 2 });
    const row = JSON.parse(rejected) as { id: string; reason: string };
    expect(row.id).toBe('row-0');
    expect(row.reason).toMatch(reason);
    expect(tables.find(({ title }) => title.includes('again'))!.rows[0]![1]).toBe('2');
  });

  it('writes a thought again until it passes', async () => {
    await using server = await startTeacherServer({ thoughtAbout: about('Red Finch', 'no', 'no', null) });
    expect((await rewrite(server)).metrics).toMatchObject({ accepted: 4, resampled: 2, calls: 14 });
  });

  it('asks nothing twice: not after a cut, not when a limit changes, not with the log of another run', async () => {
    const state = await temporaryFolder();
    await using server = await startTeacherServer({ thoughtAbout: about('Red Kite', 'no') });
    const controller = new AbortController();
    const cut = setInterval(() => {
      if (server.answered >= 5) controller.abort(new Error('cut'));
    }, 1);
    await expect(rewrite(server, {}, state, controller.signal)).rejects.toThrow('cut');
    clearInterval(cut);
    const log = path.join(state, 'calls.jsonl');
    const paid = [...readFileSync(log, 'utf8').matchAll(/\[([0-9a-f]{12})\]/g)].map(([, id]) => id!);
    expect(paid.length).toBeGreaterThan(0);
    // A crash in the middle of a line.
    appendFileSync(log, '{"key":"abc","text":"half a li');
    const before = server.requests.length;
    const whole = await rewrite(server, {}, state);
    expect(server.requests.slice(before).filter((id) => paid.includes(id))).toEqual([]);
    expect(whole.metrics).toMatchObject({ accepted: 3, rejected: 1, rememberedCalls: paid.length });

    const asked = server.requests.length;
    const again = await rewrite(server, {}, state);
    expect(server.requests.length).toBe(asked);
    expect(again).toMatchObject({ chats: whole.chats, calls: whole.calls });

    const other = await temporaryFolder();
    appendFileSync(path.join(other, 'calls.jsonl'), whole.calls);
    const reused = await rewrite(server, { reuse: fakeArtifact('files', other), attempts: 3 });
    expect(server.requests.length).toBe(asked);
    expect(reused.chats).toEqual(whole.chats);
  });

  it.each([
    [401, 'TEACHER_REFUSED', 1],
    [404, 'TEACHER_REFUSED', 1],
    [500, 'TEACHER_UNREACHABLE', 3],
    [400, 'DATA_INSUFFICIENT', 4],
  ])('ends at once with status %d, telling what to do and no key', async (status, code, atLeast) => {
    await using server = await startTeacherServer({ status });
    const requests = { concurrency: 1, retries: 2 };
    const error: unknown = await rewrite(server, { requests }).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code, hint: expect.any(String) });
    const { message, hint, cause } = error as { message: string; hint: string; cause: unknown };
    expect(`${message}${hint}${String(cause)}`).not.toContain(KEY);
    expect(server.requests.length).toBeGreaterThanOrEqual(atLeast);
  });

  it('names the option that mends a refused field, at once', async () => {
    const refused = (message: string, param?: string) => ({ status: 400, body: { error: { message, param } } });
    const cases = {
      max_tokens: [
        refused(
          "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        ),
        { tokenLimit: 'max_completion_tokens' },
      ],
      stream_options: [
        {
          status: 422,
          body: { detail: [{ loc: ['body', 'stream_options'], msg: 'Extra inputs are not permitted' }] },
        },
        { leaveOut: ['stream_options'] },
      ],
      temperature: [
        refused('Only the default (1) value is supported; unsupported value', 'temperature'),
        { leaveOut: ['temperature'] },
      ],
      seed: [
        { status: 400, body: { object: 'error', message: "Unrecognized argument: 'seed'" } },
        { leaveOut: ['seed'] },
      ],
    } as const;
    for (const [field, [refusal, mended]] of Object.entries(cases)) {
      await using server = await startTeacherServer({ refusedFields: { [field]: refusal } });
      const teacher = { kind: 'openai', baseUrl: server.url, model: 'x', apiKeyEnv: 'FR1_TEST_KEY' } as const;
      const requests = { concurrency: 1 };
      const [[option, value]] = Object.entries(mended) as [[string, string | readonly string[]]];
      await expect(rewrite(server, { teacher, requests })).rejects.toMatchObject({
        code: 'TEACHER_REFUSED',
        hint: expect.stringContaining(`teacher.${option}: ${typeof value === 'string' ? value : `[${value}]`}`),
      });
      expect(server.requests).toHaveLength(1);
      const form = structuredClone(mended) as Partial<RewriteOptions['teacher']>;
      const { metrics } = await rewrite(server, { teacher: { ...teacher, ...form }, requests });
      expect(metrics['accepted']).toBe(4);
      expect(server.bodies.at(-1)).not.toHaveProperty(field);
    }
  });

  it('leaves a limit that is too high to the row, which tells it', async () => {
    const error = { message: "'max_tokens' is too large: 1536. This model supports at most 1024 completion tokens." };
    await using server = await startTeacherServer({ refusedFields: { max_tokens: { status: 400, body: { error } } } });
    await expect(rewrite(server)).rejects.toMatchObject({
      code: 'DATA_INSUFFICIENT',
      hint: expect.stringContaining('is too large'),
    });
  });

  it('says that the cost is not known where the server tells no tokens', async () => {
    await using server = await startTeacherServer();
    const teacher = {
      ...{ kind: 'openai', baseUrl: server.url, model: 'x', apiKeyEnv: 'FR1_TEST_KEY' },
      ...{ tokenLimit: 'none', leaveOut: ['stream_options'] },
    } satisfies RewriteOptions['teacher'];
    const { told, metrics, tables } = await rewrite(server, { teacher });
    expect(told).toContain('tokens and cost are not known');
    expect(metrics).not.toHaveProperty('cost');
    expect(tables[0]!.rows[0]!.slice(-3)).toEqual(['-', '-', '-']);
    expect(Object.keys(server.bodies[0]!).sort()).toEqual(['model', 'seed', 'stream', 'temperature']);
  });

  it('asks for a key where the endpoint is that of OpenAI', async () => {
    vi.stubEnv('FR1_TEST_KEY', '');
    const teacher = { kind: 'openai', model: 'x', apiKeyEnv: 'FR1_TEST_KEY' } as const;
    await expect(rewrite({ url: '' }, { teacher })).rejects.toMatchObject({ code: 'TEACHER_REFUSED' });
  });

  it('keeps to the rate that it is given', async () => {
    await using server = await startTeacherServer();
    const started = Date.now();
    await rewrite(server, { captions: 1, requests: { perMinute: 1200 } });
    // 8 requests, 50 ms apart.
    expect(Date.now() - started).toBeGreaterThanOrEqual(340);
  });
});

describe('nativeTeacher()', () => {
  it('answers alike alone and in a batch', async () => {
    const folder = await temporaryFolder();
    const runtime = await openRuntime();
    await writeTinyModel(runtime, folder);
    const image = path.join(data, 'square.png');
    await writeSquare(image, [200, 30, 30]);
    const signal = new AbortController().signal;
    const lease = leaseOf(runtime);
    const source = { provider: 'cpu' as const, session: lease.session };
    const teacher = await nativeTeacher(source, fakeArtifact('checkpoint', folder), signal);
    const call = (seed: number) => ({
      name: `call ${seed}`,
      prompt: 'Which bird?',
      image: { path: image, sha256: '' },
      seed,
      maxNewTokens: 6,
      temperature: 1,
    });
    const alone = await teacher.ask(call(1), signal);
    const [first, second] = await Promise.all([teacher.ask(call(1), signal), teacher.ask(call(2), signal)]);
    await teacher.release();
    expect(first).toEqual(alone);
    expect(second).not.toEqual(alone);
    expect(alone.outputTokens).toBeGreaterThan(0);
    expect(alone.inputTokens).toBeGreaterThan(4);
  });
});

describe('rewriteStage.validate', () => {
  const problems = (options: Partial<RewriteOptions>) =>
    rewriteStage.validate!({
      thoughts: true,
      closedPrompts: 'none',
      teacher: { kind: 'attributes' },
      requests: {},
      ...options,
    } as RewriteOptions).map(({ pointer }) => pointer);

  it('wants one text model for the selection by embedding, and none for that by words', () => {
    const teacher = { kind: 'openai', model: 'x' } as const;
    const selection = (conceptSelection: RewriteOptions['conceptSelection']) =>
      problems({ teacher, ...(conceptSelection && { conceptSelection }) });
    expect(selection({ by: 'embedding', hub: 'Xenova/e5-large-v2' })).toEqual([]);
    expect(selection({ by: 'embedding' })).toEqual(['/conceptSelection']);
    expect(selection({ by: 'words' })).toEqual([]);
    expect(selection({ by: 'words', temperature: 1 })).toEqual(['/conceptSelection/temperature']);
  });

  it('refuses options that mean nothing for the teacher', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ teacher: { kind: 'openai' } })).toEqual(['/teacher']);
    expect(problems({ teacher: { kind: 'native', model: 'x' } })).toEqual(['/teacher', '/teacher/model']);
    const endpoint = { kind: 'openai', model: 'x' } as const;
    expect(problems({ teacher: { kind: 'attributes', tokenLimit: 'none' } })).toEqual(['/teacher/tokenLimit']);
    expect(problems({ teacher: { ...endpoint, temperature: 1, leaveOut: ['temperature'] } })).toEqual([
      '/teacher/temperature',
    ]);
    expect(problems({ teacher: { ...endpoint, maxNewTokens: 64, tokenLimit: 'none' } })).toEqual([
      '/teacher/maxNewTokens',
    ]);
    expect(problems({ captions: 2 })).toEqual(['/captions']);
    expect(problems({ conceptSelection: { by: 'words' } })).toEqual(['/conceptSelection']);
    expect(problems({ teacher: { kind: 'openai', model: 'x' }, closedPrompts: 'compact' })).toEqual(['/closedPrompts']);
  });
});
