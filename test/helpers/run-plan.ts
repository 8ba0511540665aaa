/** Runs a pipeline text with the fake stages through the executor, without a CLI. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadPipeline } from '../../src/config/load.ts';
import type { Secrets } from '../../src/config/secrets.ts';
import { planPipeline } from '../../src/plan/plan.ts';
import type { Numerics, PipelineOutput, PlannedStage, Selection } from '../../src/plan/types.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { type RunEvent, RunEventHub } from '../../src/run/events.ts';
import { executePlan, type RunOutcome } from '../../src/run/executor.ts';
import { makeRunId, RunRecorder } from '../../src/run/recorder.ts';
import type { RunRecord } from '../../src/run/run-record.ts';
import { Workspace } from '../../src/run/workspace.ts';
import { STAGES } from './fake-stages.js';

export interface TestRun {
  readonly outcome: RunOutcome;
  readonly events: readonly RunEvent[];
  readonly record: RunRecord;
  /** Events of one type, for one stage where a name is given. */
  of<T extends RunEvent['type']>(type: T, stage?: string): Extract<RunEvent, { type: T }>[];
}

export interface TestRunOptions {
  readonly sets?: readonly string[];
  readonly selection?: Selection;
  readonly signal?: AbortSignal;
  readonly jobs?: number;
  readonly numerics?: Partial<Numerics>;
  readonly settleMs?: number;
  readonly quietMs?: number;
  readonly keepGoing?: boolean;
  readonly secrets?: Secrets;
  /** Changes the plan before it is executed. */
  readonly change?: (stage: PlannedStage) => PlannedStage;
  readonly outputs?: readonly PipelineOutput[];
  readonly lease?: () => Promise<Lease>;
  readonly onEvent?: (event: RunEvent) => void;
}

export const TEST_NUMERICS: Numerics = { fr1: '1', onnxruntime: '1.30.0', provider: 'cpu', threads: 2 };

/** The workspace is `<folder>/.fr1`, the file `<folder>/pipeline.yaml`. */
export async function runPlan(folder: string, yaml: string, options: TestRunOptions = {}): Promise<TestRun> {
  const file = join(folder, 'pipeline.yaml');
  await mkdir(folder, { recursive: true });
  await writeFile(file, yaml);
  const sets = options.sets ?? [];
  const pipeline = await loadPipeline({ file, sets, stages: STAGES, cwd: folder });
  const planned = planPipeline(pipeline, options.selection);
  const plan = {
    ...planned,
    pipeline: { ...planned.pipeline, outputs: options.outputs ?? planned.pipeline.outputs },
    order: planned.order.map(options.change ?? ((stage) => stage)),
  };
  const workspace = new Workspace(join(folder, '.fr1'));
  await using _lock = await workspace.open();

  const { secrets } = options;
  const hub = new RunEventHub(secrets && ((event) => secrets.mask(event)));
  const events: RunEvent[] = [];
  hub.subscribe((event) => events.push(event));
  if (options.onEvent) hub.subscribe(options.onEvent);
  const runId = makeRunId();
  const recorder = await RunRecorder.start(workspace, runId, hub, { fr1: 'test' });
  const outcome = await executePlan({
    plan,
    workspace,
    events: hub,
    runId,
    numerics: { ...TEST_NUMERICS, ...options.numerics },
    device: 'cpu',
    jobs: options.jobs ?? 2,
    signal: options.signal ?? new AbortController().signal,
    lease: options.lease ?? (async () => fakeLease()),
    recordPath: recorder.recordPath,
    ...(options.settleMs !== undefined && { settleMs: options.settleMs }),
    ...(options.quietMs !== undefined && { quietMs: options.quietMs }),
    keepGoing: options.keepGoing ?? false,
    ...(options.secrets && { secrets: options.secrets }),
  });
  const record = await recorder.close();
  if (!record) throw new Error('the run left no record');
  return {
    outcome,
    events,
    record,
    of: (type, stage) =>
      events.filter(
        (event) => event.type === type && (stage === undefined || ('stage' in event && event.stage === stage)),
      ) as never,
  };
}

/** A lease on a device that computes nothing. */
export function fakeLease(onRelease: () => void = () => undefined): Lease {
  const refuse = () => {
    throw new Error('the fake device computes nothing');
  };
  return {
    device: { id: 'cpu', provider: 'cpu', description: 'fake', threads: 2 },
    memory: undefined,
    runtime: {
      name: 'worker',
      version: 'fake',
      threads: 2,
      createSession: refuse,
      deviceMemory: refuse,
      close: async () => undefined,
    },
    session: refuse,
    [Symbol.asyncDispose]: async () => onRelease(),
  };
}
