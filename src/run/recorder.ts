/** Keeps a run's folder: events.jsonl and the stages' logs as they come, run.json whenever a stage changes state. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { namesIn, readJsonIfPresent, writeJsonAtomically } from '../artifacts/durable-fs.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import { durationOf } from './duration.ts';
import type { ErrorRecord, RunEvent, RunEventHub } from './events.ts';
import { applyEvent, type RunRecord, startRecord } from './run-record.ts';
import type { Workspace } from './workspace.ts';

/** A time in UTC, to the millisecond, as the id of a run that starts then. */
export function makeRunId(now: Date = new Date()): string {
  const [day, time] = now
    .toISOString()
    .replace(/[-:.Z]/g, '')
    .split('T') as [string, string];
  return `${day}-${time.slice(0, 6)}-${time.slice(6)}`;
}

/**
 * The id of a run that starts now, after every other of the workspace: where the clock was set back, the time of the
 * last run and a millisecond. Called with the workspace locked.
 */
export async function nextRunId(workspace: Workspace, now: Date = new Date()): Promise<string> {
  const id = makeRunId(now);
  const last = (await namesIn(join(workspace.directory, 'runs'))).filter((name) => RUN_ID.test(name)).at(-1);
  if (last === undefined || last < id) return id;
  const [, year, month, day, hour, minute, second, ms] = RUN_ID.exec(last)!.map(Number) as number[];
  return makeRunId(new Date(Date.UTC(year!, month! - 1, day!, hour!, minute!, second!, ms! + 1)));
}

const RUN_ID = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-(\d{3})$/;

export class RunRecorder {
  /** Absolute. */
  readonly recordPath: string;
  readonly #directory: string;
  readonly #environment: RunRecord['environment'];
  readonly #events: WriteStream;
  readonly #logs = new Map<string, WriteStream>();
  readonly #unsubscribe: () => void;
  /** Settles with each stream's end; failures are kept for `close`. */
  readonly #ends: Promise<unknown>[] = [];
  #record: RunRecord | undefined;
  #writing: Promise<void> = Promise.resolve();
  #isDirty = false;
  #pauseMs = 0;
  readonly #closing = new AbortController();
  #failure: unknown;

  private constructor(directory: string, hub: RunEventHub, environment: RunRecord['environment']) {
    this.#directory = directory;
    this.recordPath = join(directory, 'run.json');
    this.#environment = environment;
    this.#events = this.#openStream(join(directory, 'events.jsonl'));
    this.#unsubscribe = hub.subscribe((event) => this.#onEvent(event));
  }

  static async start(
    workspace: Workspace,
    runId: string,
    hub: RunEventHub,
    environment: RunRecord['environment'],
  ): Promise<RunRecorder> {
    const directory = join(workspace.directory, 'runs', runId);
    await mkdir(join(directory, 'logs'), { recursive: true });
    return new RunRecorder(directory, hub, environment);
  }

  /** What went wrong while writing, e.g. a full disk; told after `close`, which does not throw it. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Waits until everything is written, and returns the record as it is in memory. */
  async close(): Promise<RunRecord | undefined> {
    this.#unsubscribe();
    this.#closing.abort();
    for (const stream of [this.#events, ...this.#logs.values()]) stream.end();
    await Promise.all(this.#ends);
    await this.#writing;
    return this.#record;
  }

  #openStream(path: string): WriteStream {
    const stream = createWriteStream(path, { flags: 'a' });
    this.#ends.push(finished(stream).catch((error: unknown) => this.#keepFailure(error)));
    return stream;
  }

  #keepFailure(error: unknown): void {
    this.#failure ??= error;
  }

  #onEvent(event: RunEvent): void {
    this.#events.write(`${JSON.stringify(event)}\n`);
    this.#log(event);
    const before = this.#record;
    this.#record =
      event.type === 'run-started' ? startRecord(event, this.#environment) : before && applyEvent(before, event);
    if (this.#record !== before) this.#writeSoon();
  }

  /**
   * One write at a time; changes that come meanwhile go into the next one. Writing takes a small part of the time only,
   * however long the record is.
   */
  #writeSoon(): void {
    if (this.#isDirty) return;
    this.#isDirty = true;
    this.#writing = this.#writing
      .then(async () => {
        await sleep(this.#pauseMs, undefined, { signal: this.#closing.signal }).catch(() => undefined);
        this.#isDirty = false;
        const startedAt = performance.now();
        await writeJsonAtomically(this.recordPath, this.#record);
        this.#pauseMs = Math.min(2_000, 5 * (performance.now() - startedAt));
      })
      .catch((error: unknown) => this.#keepFailure(error));
  }

  #log(event: RunEvent): void {
    const text = logTextOf(event);
    if (text === undefined || !('stage' in event)) return;
    let stream = this.#logs.get(event.stage);
    if (!stream) {
      stream = this.#openStream(join(this.#directory, 'logs', `${fileNameOf(event.stage)}.log`));
      this.#logs.set(event.stage, stream);
    }
    stream.write(`${event.time} ${text}\n`);
  }
}

/** Marks runs that a crash cut off; called with the workspace locked, so no run can still be going. */
export async function markCutOffRuns(workspace: Workspace): Promise<void> {
  const runs = join(workspace.directory, 'runs');
  const last = (await namesIn(runs)).at(-1);
  if (last === undefined) return;
  const record = await readRecord(workspace, last);
  if (record?.status !== 'running') return;
  const stages = record.stages.map((stage) =>
    stage.status === 'running' ? { ...stage, status: 'interrupted' as const } : stage,
  );
  await writeJsonAtomically(join(runs, last, 'run.json'), { ...record, status: 'cut-off', stages });
}

/** The records of all runs of a workspace, the latest first. */
export async function listRuns(workspace: Workspace): Promise<RunRecord[]> {
  const ids = (await namesIn(join(workspace.directory, 'runs'))).reverse();
  const records = await Promise.all(ids.map((id) => readRecord(workspace, id)));
  return records.filter((record) => record !== undefined);
}

/**
 * The record of a run by id or unambiguous beginning of one; `last` means the latest that has a record.
 *
 * @throws RUN_UNKNOWN
 */
export async function findRun(workspace: Workspace, wanted: string): Promise<RunRecord> {
  const ids = (await namesIn(join(workspace.directory, 'runs'))).reverse();
  const matching = wanted === 'last' ? ids : ids.filter((id) => id.startsWith(wanted));
  if (wanted !== 'last' && matching.length > 1 && !ids.includes(wanted)) {
    throw new Fr1Error('RUN_UNKNOWN', `"${wanted}" fits ${matching.length} runs: ${matching.slice(0, 5).join(', ')}`);
  }
  for (const id of matching) {
    const record = await readRecord(workspace, id);
    if (record) return record;
  }
  const hint = didYouMean(wanted, ids, 'runs') ?? 'run a pipeline first, or name the workspace with --workspace DIR';
  const what = wanted === 'last' ? 'no run' : `no run "${wanted}"`;
  throw new Fr1Error('RUN_UNKNOWN', `${what} in ${workspace.directory}`, { hint });
}

/** Events of a run, in order; a last line that a crash cut short is left out. */
export async function readEvents(workspace: Workspace, runId: string): Promise<RunEvent[]> {
  const text = await readFile(join(workspace.directory, 'runs', runId, 'events.jsonl'), 'utf8');
  const complete = text.slice(0, text.lastIndexOf('\n') + 1);
  return complete
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as RunEvent);
}

/** run.json of a run; undefined where it was cut off before it wrote any. @throws WORKSPACE_UNREADABLE */
export async function readRecord(workspace: Workspace, id: string): Promise<RunRecord | undefined> {
  const path = join(workspace.directory, 'runs', id, 'run.json');
  let value: unknown;
  try {
    value = await readJsonIfPresent(path);
  } catch (cause) {
    throw new Fr1Error('WORKSPACE_UNREADABLE', `cannot read ${path}`, { cause });
  }
  if (value === undefined) return undefined;
  const record = value as RunRecord;
  if (record.version !== 1) {
    throw new Fr1Error('WORKSPACE_UNREADABLE', `${path} has format version ${record.version}; this fr1 reads 1`);
  }
  return record;
}

function logTextOf(event: RunEvent): string | undefined {
  switch (event.type) {
    case 'stage-log':
      return event.message;
    case 'stage-memory':
      return `expects to take ${event.expectedBytes} bytes of memory: ${JSON.stringify(event.parts)}`;
    case 'stage-warn':
      return `warning: ${event.message}`;
    case 'stage-quiet':
      return `silent for ${durationOf(event.quietMs)}: ${event.hint}`;
    case 'stage-retrying': {
      const { attempt, attempts, delayMs, error } = event;
      return `${errorText(error)}\nattempt ${attempt} of ${attempts} failed; the next begins in ${durationOf(delayMs)}`;
    }
    case 'stage-failed':
      return errorText(event.error);
    default:
      return undefined;
  }
}

function errorText({ code, message, causes = [], stack }: ErrorRecord): string {
  return [
    `error[${code}]: ${message}`,
    ...causes.map((cause) => `  because: ${cause}`),
    ...(stack ? [stack] : []),
  ].join('\n');
}

/** A stage's name as a file name on every system. */
function fileNameOf(stage: string): string {
  return stage.replace(/[^A-Za-z0-9._-]/g, '_');
}
