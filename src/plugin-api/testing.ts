/**
 * `fr1/plugin/testing`: runs one stage in a temporary workspace, through the same loading, checking, caching and storing
 * as `fr1 run`. Knows no test framework.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ArtifactType, Metric } from '../artifacts/types.ts';
import { loadPipeline } from '../config/load.ts';
import { planPipeline } from '../plan/plan.ts';
import type { SessionPool } from '../pool/pool.ts';
import { type RunEvent, RunEventHub } from '../run/events.ts';
import { executePlan } from '../run/executor.ts';
import { currentNumerics } from '../run/numerics.ts';
import { applyEvent, type RunRecord, startRecord } from '../run/run-record.ts';
import type { OutputSpec, ReportTable } from '../run/stage-api.ts';
import { Workspace } from '../run/workspace.ts';
import { checkStage } from './check-stage.ts';
import type { PluginStage } from './define-stage.ts';
import type { StageOptionsSchema, WrittenOptionsOf } from './options-of.ts';

export interface StageRunOptions<Schema> {
  /** The options as a pipeline would give them; an artifact is the path of a folder. */
  readonly with: WrittenOptionsOf<Schema>;
  /** Seed of the run. @default 1 */
  readonly seed?: number;
  /** Interrupts the run as Ctrl-C does. */
  readonly signal?: AbortSignal;
  /** Called with each line that the stage logs, while it runs. */
  readonly onLog?: (message: string) => void;
}

export interface MadeArtifact {
  readonly type: ArtifactType;
  readonly digest: string;
  /** Absolute. */
  readonly path: string;
}

export interface StageError {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  /** Messages of the causes, outermost first. */
  readonly causes?: readonly string[] | undefined;
}

export interface StageRun<OutputName extends string> {
  /** `cached`: the same work was done before in this workspace. */
  readonly status: 'ran' | 'cached' | 'failed' | 'interrupted';
  /** What a finished stage made: absolute path and content digest, by name; empty unless it ran or was cached. */
  readonly outputs: { readonly [Name in OutputName]: MadeArtifact };
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly tables: readonly ReportTable[];
  /** Of a failed stage. */
  readonly error?: StageError;
  readonly log: readonly string[];
  readonly warnings: readonly string[];
  /** The calls of `context.metric`. */
  readonly curve: readonly { readonly step: number; readonly values: Readonly<Record<string, number>> }[];
  /** Whether it found the state of an earlier, unfinished run. */
  readonly resumed: boolean;
}

/**
 * A folder for tests of a stage; what runs in it shares one workspace, so that caching and resuming can be tested, too.
 *
 * @example
 * const workspace = await openTestWorkspace();
 * const data = await workspace.write('birds', { 'dataset.json': { name: 'birds' }, 'rows.jsonl': '' });
 * const run = await workspace.run(stage, { with: { data, times: 2 } });
 * assert.equal(run.status, 'ran');
 * await workspace.close();
 */
export interface TestWorkspace extends AsyncDisposable {
  /** Absolute. */
  readonly folder: string;
  /** Makes a folder with these files and returns its absolute path; a value that is no text or bytes becomes JSON. */
  write(name: string, files: Readonly<Record<string, unknown>>): Promise<string>;
  /** Runs the stage. @throws what `fr1 check` would tell about the options */
  run<
    Schema extends StageOptionsSchema,
    Outputs extends Readonly<Record<string, OutputSpec>>,
    MetricName extends string,
  >(
    stage: PluginStage<Schema, Outputs, MetricName>,
    options: StageRunOptions<Schema>,
  ): Promise<StageRun<keyof Outputs & string>>;
  /** Removes the folder. */
  close(): Promise<void>;
}

export async function openTestWorkspace(): Promise<TestWorkspace> {
  const folder = await mkdtemp(path.join(tmpdir(), 'fr1-stage-test-'));
  const close = () => rm(folder, { recursive: true, force: true, maxRetries: 3 });
  return {
    folder,
    async write(name, files) {
      const target = path.join(folder, name);
      await mkdir(target, { recursive: true });
      for (const [file, content] of Object.entries(files)) {
        const isRaw = typeof content === 'string' || content instanceof Uint8Array;
        await mkdir(path.dirname(path.join(target, file)), { recursive: true });
        await writeFile(path.join(target, file), isRaw ? content : `${JSON.stringify(content, null, 2)}\n`);
      }
      return target;
    },
    run: (stage, options) => runStage(folder, stage, options),
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function runStage<
  Schema extends StageOptionsSchema,
  Outputs extends Readonly<Record<string, OutputSpec>>,
  MetricName extends string,
>(
  folder: string,
  stage: PluginStage<Schema, Outputs, MetricName>,
  { with: options, seed = 1, signal = new AbortController().signal, onLog }: StageRunOptions<Schema>,
): Promise<StageRun<keyof Outputs & string>> {
  const definition = checkStage(stage, stage.kind);
  const file = path.join(folder, 'pipeline.yaml');
  const content = { name: 'test', seed, stages: { [STAGE]: { uses: definition.kind, with: options } } };
  await writeFile(file, JSON.stringify(content, null, 2));
  const plan = planPipeline(await loadPipeline({ file, stages: [definition], cwd: folder }));

  const workspace = new Workspace(path.join(folder, '.fr1'));
  await using _lock = await workspace.open();
  const events: RunEvent[] = [];
  const hub = new RunEventHub();
  hub.subscribe((event) => {
    events.push(event);
    if (event.type === 'stage-log') onLog?.(event.message);
  });
  let pool: SessionPool | undefined;
  try {
    await executePlan({
      plan,
      workspace,
      events: hub,
      runId: 'test',
      numerics: currentNumerics(['cpu']),
      device: 'cpu',
      jobs: 1,
      signal,
      recordPath: '',
      lease: async (request) => {
        const { SessionPool } = await import('../pool/pool.ts');
        pool ??= await SessionPool.open({ devices: ['cpu'] });
        return pool.lease(request);
      },
    });
  } finally {
    await pool?.close();
  }
  return resultOf(events) as StageRun<keyof Outputs & string>;
}

const STAGE = 'stage';

function resultOf(events: readonly RunEvent[]): StageRun<string> {
  const [first, ...rest] = events;
  if (first?.type !== 'run-started') throw new TypeError('a run starts with the event run-started');
  const record: RunRecord = rest.reduce(applyEvent, startRecord(first, {}));
  const stage = record.stages[0]!;
  const { outputs, metrics, tables, warnings, error, resumed = false } = stage;
  const { status } = stage;
  return {
    status: status === 'ran' || status === 'cached' || status === 'failed' ? status : 'interrupted',
    outputs,
    metrics,
    tables,
    warnings,
    ...(error && { error }),
    log: events.flatMap((event) => (event.type === 'stage-log' ? [event.message] : [])),
    curve: events.flatMap((event) =>
      event.type === 'stage-metric' ? [{ step: event.step, values: event.values }] : [],
    ),
    resumed,
  };
}
