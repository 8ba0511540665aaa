/**
 * Every answer of a teacher, written down the moment it arrives: a run that is cut off asks for none of them again, and
 * the log of one run can be given to another.
 */
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { appendFile, readFile, truncate } from 'node:fs/promises';
import path from 'node:path';
import { isRecord } from '../../src/artifacts/json-lines.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { Teacher, TeacherCall, TeacherReply } from './teacher.ts';

export const CALLS_FILE = 'calls.jsonl';

/** What the answers that a result rests on took, in this run and before. */
export interface Tally {
  readonly answers: number;
  /** Of these, taken from the log. */
  readonly remembered: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

interface LoggedReply extends TeacherReply {
  readonly key: string;
  readonly name: string;
}

export class CallLog {
  readonly #file: string;
  readonly #replies: Map<string, LoggedReply>;
  readonly #used = new Map<string, LoggedReply>();
  #remembered = 0;
  #lastWrite: Promise<void> = Promise.resolve();

  private constructor(file: string, replies: Map<string, LoggedReply>) {
    this.#file = file;
    this.#replies = replies;
  }

  /**
   * Opens the log of a state folder; a line that a crash cut off is dropped.
   *
   * @param reuse another log, or the folder that holds it
   * @throws DATA_UNREADABLE, DATA_ROW_INVALID for a damaged log
   */
  static async open(stateFolder: string, reuse?: string): Promise<CallLog> {
    const file = path.join(stateFolder, CALLS_FILE);
    const replies = new Map<string, LoggedReply>();
    if (reuse !== undefined) {
      const other = statSync(reuse).isDirectory() ? path.join(reuse, CALLS_FILE) : reuse;
      if (!existsSync(other)) throw new Fr1Error('DATA_UNREADABLE', `${reuse} holds no ${CALLS_FILE}`);
      read(other, await readFile(other, 'utf8'), replies);
    }
    if (existsSync(file)) {
      const text = await readFile(file, 'utf8');
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      if (whole.length < text.length) await truncate(file, Buffer.byteLength(whole));
      read(file, whole, replies);
    }
    return new CallLog(file, replies);
  }

  /** Answers that are known from before. */
  get size(): number {
    return this.#replies.size;
  }

  get tally(): Tally {
    const used = [...this.#used.values()];
    const sum = (of: (reply: LoggedReply) => number) => used.reduce((total, reply) => total + of(reply), 0);
    return {
      answers: used.length,
      remembered: this.#remembered,
      inputTokens: sum(({ inputTokens }) => inputTokens),
      outputTokens: sum(({ outputTokens }) => outputTokens),
    };
  }

  /** Every answer that this run used, in the order of their names: the same however often the run was cut off. */
  get used(): readonly object[] {
    return [...this.#used.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  /** The remembered answer, or that of the teacher, which is written down before it is returned. */
  async ask(teacher: Teacher, call: TeacherCall, signal: AbortSignal): Promise<TeacherReply> {
    const key = keyOf(teacher, call);
    const known = this.#replies.get(key);
    if (known !== undefined) {
      if (!this.#used.has(key)) this.#remembered++;
      this.#used.set(key, known);
      return known;
    }
    const { text, inputTokens, outputTokens } = await teacher.ask(call, signal);
    const reply: LoggedReply = { key, name: call.name, text, inputTokens, outputTokens };
    this.#replies.set(key, reply);
    this.#used.set(key, reply);
    // One line after the other: lines of calls that end together must not mix.
    const turn = this.#lastWrite.then(() => appendFile(this.#file, `${JSON.stringify(reply)}\n`));
    this.#lastWrite = turn.catch(() => undefined);
    await turn;
    return reply;
  }
}

function keyOf({ identity }: Teacher, { name, prompt, image, seed, maxNewTokens, temperature }: TeacherCall): string {
  const parts = [identity, name, prompt, image.sha256, seed, maxNewTokens, temperature];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

function read(file: string, text: string, replies: Map<string, LoggedReply>): void {
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '') continue;
    const at = { file, line: index + 1, col: 1 };
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (cause) {
      throw new Fr1Error('DATA_ROW_INVALID', 'the row is not JSON', { at, cause });
    }
    if (!isRecord(value) || typeof value['key'] !== 'string' || typeof value['text'] !== 'string') {
      throw new Fr1Error('DATA_ROW_INVALID', 'the row is no answer of a teacher: it lacks "key" or "text"', { at });
    }
    replies.set(value['key'], value as unknown as LoggedReply);
  }
}
