/**
 * A real HTTP server that speaks OpenAI's streamed chat completions and misbehaves: errors, dropped connections, answers that
 * break off, silence, refusals for the rate. What it does to a request is a function of the request and of how often it came, so
 * that a test can say what must come out.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface TeacherServer extends AsyncDisposable {
  /** Up to `/v1`. */
  readonly url: string;
  /** Ids of the requests, in the order in which they came. */
  readonly requests: readonly string[];
  /** Requests that were answered to the end; each answer holds `[id]`. */
  readonly answered: number;
  /** Bodies of the requests without their messages, in the same order. */
  readonly bodies: readonly Readonly<Record<string, unknown>>[];
  /** Authorization headers that came. */
  readonly keys: ReadonlySet<string>;
}

export interface TeacherServerSettings {
  /** Share of requests whose first attempt fails in one of five ways. @default 0 */
  readonly failing?: number;
  /** Every request fails with this status. @default none */
  readonly status?: number;
  /** Requests with one of these fields are refused, in the words of a server. @default none */
  readonly refusedFields?: Readonly<Record<string, { readonly status: number; readonly body: unknown }>>;
  /** What it says about a bird of that label; null for the usual. */
  thoughtAbout?(label: string, attempt: number): string | null;
}

/** A well-formed thought with the label in the second place. */
export function goodThought(label: string): string {
  return [
    `<analysis>The bird has the bill of a ${label}.</analysis>`,
    `<options>\n- Grey Gull\n- ${label}\n- Marsh Wren\n</options>`,
    `<comparison>\n- Grey Gull: the bill is too long.\n- ${label}: bill and tail agree.\n- Marsh Wren: too small.\n</comparison>`,
    `<prediction>${label}</prediction>`,
  ].join('\n');
}

export async function startTeacherServer(settings: TeacherServerSettings = {}): Promise<TeacherServer> {
  const requests: string[] = [];
  const bodies: Record<string, unknown>[] = [];
  const keys = new Set<string>();
  const attempts = new Map<string, number>();
  let answered = 0;

  const server = createServer((request, response) => {
    void handle(request, response).catch(() => response.destroy());
  });
  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const key = request.headers.authorization ?? '';
    keys.add(key);
    const id = createHash('sha256').update(body).digest('hex').slice(0, 12);
    requests.push(id);
    const attempt = attempts.get(id) ?? 0;
    attempts.set(id, attempt + 1);
    const { messages, ...fields } = JSON.parse(body) as { messages: { content: { text?: string }[] }[] };
    bodies.push(fields);
    for (const [field, { status, body: refusal }] of Object.entries(settings.refusedFields ?? {})) {
      if (!(field in fields)) continue;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(refusal));
      return;
    }
    if (settings.status !== undefined) return fail(response, settings.status, key);
    const chance = Number.parseInt(id.slice(0, 6), 16) / 0x1000000;
    if (attempt === 0 && chance < (settings.failing ?? 0)) {
      switch (Number.parseInt(id.slice(6, 8), 16) % 5) {
        case 0:
          return fail(response, 500, key);
        case 1:
          response.setHeader('retry-after-ms', '20');
          return fail(response, 429, key);
        case 2:
          response.destroy();
          return;
        case 3:
          // Silence: the client has to give up.
          return;
        default:
          begin(response);
          response.write(chunkOf('It breaks', null));
          response.destroy();
          return;
      }
    }
    const prompt = messages[0]!.content.find(({ text }) => text !== undefined)!.text!;
    begin(response);
    const text = replyTo(prompt, id);
    for (let at = 0; at < text.length; at += 64) response.write(chunkOf(text.slice(at, at + 64), null));
    response.write(chunkOf('', 'stop'));
    const usage = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };
    if ('stream_options' in fields) response.write(`data: ${JSON.stringify({ choices: [], usage })}\n\n`);
    response.end('data: [DONE]\n\n');
    answered++;
  }
  const thoughts = new Map<string, number>();
  function replyTo(prompt: string, id: string): string {
    const label = /The right answer is "([^"]+)"/.exec(prompt)?.[1];
    if (label === undefined) return `- a long bill [${id}]\n- a grey tail\n`;
    const attempt = thoughts.get(label) ?? 0;
    thoughts.set(label, attempt + 1);
    return `[${id}]\n${settings.thoughtAbout?.(label, attempt) ?? goodThought(label)}`;
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    requests,
    bodies,
    keys,
    get answered() {
      return answered;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function begin(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
}

function chunkOf(content: string, finish: string | null): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}\n\n`;
}

/** Tells the key back, as careless servers do. */
function fail(response: ServerResponse, status: number, key: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ error: { message: `status ${status} for ${key}`, type: 'test' } }));
}
