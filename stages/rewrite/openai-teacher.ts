/**
 * A teacher behind an OpenAI-compatible endpoint. Answers are streamed, so that a connection that has gone quiet is told
 * from one that is slow; failures, stalls and refusals for the rate are tried again, later each time.
 *
 * The key comes from the environment and leaves this file in requests alone: errors are told by their text without it,
 * never with the client's own error attached.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { APIConnectionError, APIError } from 'openai';
import { isRecord } from '../../src/artifacts/json-lines.ts';
import { imageFormat } from '../../src/engine/image/load-image.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { checkKey } from './api-key.ts';
import { fieldsOf, type RequestForm, remedyFor } from './request-fields.ts';
import { RowRefused, type Teacher, type TeacherCall, type TeacherReply } from './teacher.ts';

export interface OpenAISettings {
  readonly baseUrl: string | undefined;
  readonly model: string;
  readonly apiKeyEnv: string;
  readonly form: RequestForm;
  readonly concurrency: number;
  readonly perMinute: number | undefined;
  readonly timeoutMs: number;
  readonly retries: number;
  /** Told of every attempt that has to be repeated. */
  onRetry?(reason: string): void;
}

/** The first pause before a repetition, and the longest; they double in between. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;

/** Statuses that a repetition may mend. */
const isPassing = (status: number) => [408, 409, 425, 429].includes(status) || status >= 500;
/** Statuses that mean this one call: malformed for the model, too long, against its rules. */
const isAboutTheCall = (status: number) => [400, 413, 422].includes(status);

/** Fields that change what is answered. */
const SAMPLING: ReadonlySet<string> = new Set(['temperature', 'seed']);

/** @throws TEACHER_REFUSED without a key where the endpoint is OpenAI's */
export function openAITeacher(settings: OpenAISettings): Teacher {
  const { baseUrl, model, apiKeyEnv, form } = settings;
  checkKey(settings);
  const key = process.env[apiKeyEnv];
  const client = new OpenAI({
    apiKey: key || 'none',
    // Else the client would read these from the environment behind the pipeline's back.
    baseURL: baseUrl ?? 'https://api.openai.com/v1',
    organization: null,
    project: null,
    maxRetries: 0,
    logLevel: 'off',
    fetch: withReason,
  });
  const pace = new Pace(settings.perMinute);
  const told = (text: string) => (key ? text.replaceAll(key, '***') : text).split('\n')[0]!.slice(0, 300);
  return {
    identity: ['openai', baseUrl ?? '', model, ...form.leaveOut.filter((field) => SAMPLING.has(field)).sort()].join(
      ' ',
    ),
    concurrency: settings.concurrency,
    async ask(call, signal) {
      let reason = '';
      for (let attempt = 0; attempt <= settings.retries; attempt++) {
        await pace.turn(signal);
        try {
          return await streamed(client, call, settings, signal);
        } catch (error) {
          signal.throwIfAborted();
          const failure = failureOf(error);
          reason = told(failure.message);
          if (failure.kind === 'call') throw new RowRefused(`the teacher refuses it: ${reason}`);
          if (failure.kind === 'lasting') {
            throw new Fr1Error('TEACHER_REFUSED', `${baseUrl ?? 'api.openai.com'} refuses "${model}": ${reason}`, {
              hint: failure.remedy ?? `check teacher.baseUrl and teacher.model, and the key in ${apiKeyEnv}`,
            });
          }
          settings.onRetry?.(reason);
          const pause = failure.retryAfterMs ?? pauseMs(call, attempt);
          if (failure.isRate) pace.holdFor(pause);
          if (attempt < settings.retries) await sleep(pause, undefined, { signal });
        }
      }
      throw new Fr1Error(
        'TEACHER_UNREACHABLE',
        `${call.name}: ${baseUrl ?? 'api.openai.com'} did not answer in ${settings.retries + 1} attempts; last: ${reason}`,
        {
          hint: 'is the server there? Run it again: answers so far are kept; requests.retries and requests.timeoutSeconds give it more time',
        },
      );
    },
    async release() {},
  };
}

/**
 * fetch() with errors in OpenAI's form: of others, such as `{ detail }` or `{ message }` of servers built otherwise, the client
 * would tell the status alone.
 */
async function withReason(url: string | URL | Request, init?: RequestInit): Promise<Response> {
  const response = await fetch(url, init);
  if (response.ok) return response;
  const text = await response.text();
  const { status, headers } = response;
  return new Response(JSON.stringify(inOpenAIForm(text)), { status, headers });
}

function inOpenAIForm(text: string): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return { error: { message: text } };
  }
  if (!isRecord(body)) return { error: { message: text } };
  if (isRecord(body['error'])) return body;
  const { message, param, detail = text } = body;
  const told = body['error'] ?? message ?? detail;
  return { error: { message: typeof told === 'string' ? told : JSON.stringify(told), param } };
}

/** Doubles from attempt to attempt, between half and all of it by chance. */
function pauseMs(call: TeacherCall, attempt: number): number {
  const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
  return most * new RandomStream('pause', call.name, call.seed, attempt).between(0.5, 1);
}

async function streamed(
  client: OpenAI,
  call: TeacherCall,
  { model, form, timeoutMs }: Pick<OpenAISettings, 'model' | 'form' | 'timeoutMs'>,
  signal: AbortSignal,
): Promise<TeacherReply> {
  const quiet = new AbortController();
  let timer = setTimeout(() => quiet.abort(), timeoutMs);
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => quiet.abort(), timeoutMs);
  };
  const both = AbortSignal.any([signal, quiet.signal]);
  try {
    const bytes = await readFile(call.image.path);
    const image = `data:${await mimeOf(bytes)};base64,${bytes.toString('base64')}`;
    const stream = await client.chat.completions.create(
      {
        model,
        stream: true,
        ...fieldsOf(form, call),
        messages: [
          {
            role: 'user',
            content: [
              { type: 'image_url', image_url: { url: image } },
              { type: 'text', text: call.prompt },
            ],
          },
        ],
      },
      { signal: both },
    );
    let text = '';
    let finish: string | null = null;
    let inputTokens = 0;
    let outputTokens = 0;
    for await (const chunk of stream) {
      heard();
      const choice = chunk.choices?.[0];
      text += choice?.delta?.content ?? '';
      finish = choice?.finish_reason ?? finish;
      if (chunk.usage) {
        inputTokens = chunk.usage.prompt_tokens;
        outputTokens = chunk.usage.completion_tokens;
      }
    }
    both.throwIfAborted();
    if (finish === null) throw new Broken('the answer broke off');
    if (finish === 'content_filter') throw new RowRefused('the teacher withholds its answer');
    return { text, inputTokens, outputTokens };
  } catch (error) {
    if (quiet.signal.aborted && !signal.aborted) throw new Broken(`it sent nothing for ${timeoutMs / 1000} s`);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** An answer that did not come to its end. */
class Broken extends Error {}

interface Failure {
  /** passing: worth another attempt; call: this call will not be answered; lasting: none will be. */
  readonly kind: 'passing' | 'call' | 'lasting';
  readonly message: string;
  /** What would mend it, where that is known. */
  readonly remedy?: string;
  readonly isRate?: boolean;
  readonly retryAfterMs?: number | undefined;
}

function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof RowRefused) throw error;
  if (error instanceof Fr1Error) throw error;
  if (error instanceof APIConnectionError || !(error instanceof APIError)) {
    return { kind: 'passing', message: withCauses(error) };
  }
  const status = typeof error.status === 'number' ? error.status : 500;
  if (isPassing(status)) {
    return { kind: 'passing', message, isRate: status === 429, retryAfterMs: retryAfterMs(error.headers) };
  }
  if (!isAboutTheCall(status)) return { kind: 'lasting', message };
  const remedy = remedyFor(message, error.param);
  return remedy === null ? { kind: 'call', message } : { kind: 'lasting', message, remedy };
}

/** The messages of an error and its causes: the client's own says `Connection error`, the last one why. */
function withCauses(error: unknown): string {
  const messages: string[] = [];
  for (let each = error; each instanceof Error && messages.length < 4; each = each.cause) {
    const { code = each.name } = each as NodeJS.ErrnoException;
    messages.push(each.message.replace(/\.$/, '') || code);
  }
  return messages.join(': ') || String(error);
}

/** What the server asks for, in milliseconds, at most {@link LONGEST_PAUSE_MS}. */
function retryAfterMs(headers: Headers | undefined): number | undefined {
  const ms = Number(headers?.get('retry-after-ms') ?? Number.NaN);
  const seconds = Number(headers?.get('retry-after') ?? Number.NaN);
  const asked = Number.isFinite(ms) ? ms : seconds * 1000;
  return Number.isFinite(asked) && asked >= 0 ? Math.min(asked, LONGEST_PAUSE_MS) : undefined;
}

const MIME_TYPES: Readonly<Record<string, string>> = {
  jpeg: 'image/jpeg',
  png: 'image/png',
  webp: 'image/webp',
  gif: 'image/gif',
};

/** By the bytes: the name of a file may say another format. */
async function mimeOf(bytes: Uint8Array): Promise<string> {
  const format = await imageFormat(bytes);
  const type = MIME_TYPES[format];
  if (type === undefined) throw new RowRefused(`${format} is no image format that endpoints take`);
  return type;
}

/** Spreads requests over time: at most `perMinute`, and none while the server asks for a pause. */
class Pace {
  readonly #gapMs: number;
  #next = 0;
  #heldUntil = 0;

  constructor(perMinute: number | undefined) {
    this.#gapMs = perMinute === undefined ? 0 : 60_000 / perMinute;
  }

  async turn(signal: AbortSignal): Promise<void> {
    for (let now = Date.now(); ; now = Date.now()) {
      const at = Math.max(this.#next, this.#heldUntil);
      if (at <= now) {
        this.#next = now + this.#gapMs;
        return;
      }
      await sleep(at - now, undefined, { signal });
    }
  }

  holdFor(ms: number): void {
    this.#heldUntil = Math.max(this.#heldUntil, Date.now() + ms);
  }
}
