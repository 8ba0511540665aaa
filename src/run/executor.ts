/**
 * Runs a plan: each stage as soon as what it needs is finished, from the cache where the same work was done before.
 *
 * It emits events and writes to the workspace; it knows no terminal and no process. A failed stage stops those that
 * need it and no others; an abort stops all, and leaves checkpoints from which the next run continues.
 */
import { setMaxListeners } from 'node:events';
import type { Artifact } from '../artifacts/types.ts';
import { exitCodeOf } from '../errors/format.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { Fingerprint, Numerics, Plan, PlannedStage } from '../plan/types.ts';
import type { Lease } from '../pool/lease.ts';
import { explainDiskError } from './disk-error.ts';
import { errorRecordOf } from './error-record.ts';
import type { OutputRecord, RunEventHub } from './events.ts';
import { placeInputError } from './place-input-error.ts';
import {
  checkExpectations,
  consultCache,
  fingerprintWith,
  optionsWithArtifacts,
  resolveInputs,
  type StageOutputs,
} from './resolve-stage.ts';
import { Slots } from './slots.ts';
import type { Progress, StageContext, StageResult } from './stage-api.ts';
import type { Workspace } from './workspace.ts';

/** Progress events of one stage are at least this far apart, the last one excepted. */
const PROGRESS_INTERVAL_MS = 100;
/** How long stages may take to come to rest after an abort. */
const SETTLE_MS = 1_500;

export interface ExecuteOptions {
  readonly plan: Plan;
  /** Open, i.e. locked by this process. */
  readonly workspace: Workspace;
  readonly events: RunEventHub;
  readonly runId: string;
  readonly numerics: Numerics;
  /** Device id for stages that compute, e.g. `cpu`. */
  readonly device: string;
  /** Stages that run at the same time. */
  readonly jobs: number;
  readonly signal: AbortSignal;
  /** Waits for the device. Called only when a stage that computes has to run. */
  lease(request: { holder: string; memoryBytes?: number | undefined; signal: AbortSignal }): Promise<Lease>;
  /** Absolute path of run.json, for the last event. */
  readonly recordPath: string;
  /** @default 1500 */
  readonly settleMs?: number;
}

export interface RunOutcome {
  readonly status: 'done' | 'failed' | 'interrupted';
  readonly ran: number;
  readonly cached: number;
  readonly failed: number;
  /** Of a failed run: 2 when what the user gave is wrong, 1 when only stages or expectations failed; else 0. */
  readonly faultCode: 0 | 1 | 2;
}

/** How one stage ended, for those that wait for it. */
type StageEnd = { readonly isOk: true; readonly outputs: StageOutputs } | { readonly isOk: false };

export async function executePlan(options: ExecuteOptions): Promise<RunOutcome> {
  return new PlanExecution(options).run();
}

class PlanExecution {
  readonly #options: ExecuteOptions;
  readonly #slots: Slots;
  readonly #ends = new Map<string, Promise<StageEnd>>();
  readonly #outputs = new Map<string, StageOutputs>();
  /** Stages under way by fingerprint: the same work is not done twice at once. */
  readonly #inFlight = new Map<string, Promise<void>>();
  readonly #unsettled = new Set<string>();
  /** By device: how often and how long it was lent. */
  readonly #usage = new Map<string, { leases: number; leasedMs: number }>();
  readonly #counts = { ran: 0, cached: 0, failed: 0 };
  #faultCode: RunOutcome['faultCode'] = 0;
  #isOver = false;

  constructor(options: ExecuteOptions) {
    this.#options = options;
    this.#slots = new Slots(options.jobs);
    // Every waiting stage listens to the one signal; that is no leak.
    setMaxListeners(0, options.signal);
  }

  async run(): Promise<RunOutcome> {
    const { plan, events, signal, workspace, runId, device } = this.#options;
    const startedAt = performance.now();
    events.emit({
      type: 'run-started',
      version: 1,
      run: runId,
      pipeline: plan.pipeline.name,
      file: plan.pipeline.file,
      workspace: workspace.directory,
      seed: plan.pipeline.seed,
      device,
      stages: plan.order.map((stage) => ({ name: stage.name, kind: stage.definition.kind })),
    });

    for (const stage of plan.order) this.#ends.set(stage.name, this.#runToEnd(stage));
    const all = Promise.all(this.#ends.values());
    await Promise.race([all, settleAfterAbort(signal, this.#options.settleMs ?? SETTLE_MS, all)]);
    for (const stage of this.#unsettled) events.emit({ type: 'stage-stopped', stage, why: 'interrupted' });
    this.#isOver = true;

    const status = signal.aborted ? 'interrupted' : this.#counts.failed > 0 ? 'failed' : 'done';
    const durationMs = Math.round(performance.now() - startedAt);
    for (const [id, { leases, leasedMs }] of this.#usage) {
      const share = durationMs === 0 ? 0 : Math.min(1, leasedMs / durationMs);
      events.emit({ type: 'device-usage', device: id, leases, leasedMs, share });
    }
    events.emit({ type: 'run-finished', status, durationMs, ...this.#counts, record: this.#options.recordPath });
    return { status, ...this.#counts, faultCode: this.#faultCode };
  }

  #fail(faultCode: 1 | 2): void {
    this.#counts.failed++;
    if (faultCode > this.#faultCode) this.#faultCode = faultCode;
  }

  /** Never rejects: whatever goes wrong becomes an event. */
  async #runToEnd(stage: PlannedStage): Promise<StageEnd> {
    const { events, signal, workspace } = this.#options;
    for (const need of stage.dependencies) {
      const end = await this.#ends.get(need);
      if (end && !end.isOk) {
        if (!this.#isOver) {
          events.emit({
            type: 'stage-stopped',
            stage: stage.name,
            why: signal.aborted ? 'not-started' : 'blocked',
            by: need,
          });
        }
        return { isOk: false };
      }
    }
    let startedAt: number | undefined;
    try {
      signal.throwIfAborted();
      return await this.#cachedOrRun(stage, () => {
        startedAt = performance.now();
      });
    } catch (error) {
      if (this.#isOver) return { isOk: false };
      if (signal.aborted) {
        const wasRunning = startedAt !== undefined;
        events.emit({ type: 'stage-stopped', stage: stage.name, why: wasRunning ? 'interrupted' : 'not-started' });
      } else {
        const placed = placeInputError(explainDiskError(error, workspace.directory), stage.inputs);
        this.#fail(exitCodeOf(placed) === 2 ? 2 : 1);
        const durationMs = startedAt === undefined ? 0 : Math.round(performance.now() - startedAt);
        events.emit({ type: 'stage-failed', stage: stage.name, durationMs, error: errorRecordOf(placed) });
      }
      return { isOk: false };
    } finally {
      this.#unsettled.delete(stage.name);
    }
  }

  async #cachedOrRun(stage: PlannedStage, onStart: () => void): Promise<StageEnd> {
    const { events, signal, workspace, numerics, plan } = this.#options;
    const scope = plan.pipeline.name;
    const outputsOf = (name: string) => this.#outputs.get(name) ?? {};
    const inputs = await resolveInputs(stage, outputsOf, workspace, { remember: true, signal });
    const fingerprint = fingerprintWith(stage, inputs, numerics);

    while (this.#inFlight.has(fingerprint.digest)) await this.#inFlight.get(fingerprint.digest);
    let leave = () => {};
    this.#inFlight.set(
      fingerprint.digest,
      new Promise((resolve) => {
        leave = resolve;
      }),
    );
    try {
      const decision = await consultCache(stage, fingerprint, workspace, scope);
      if (decision.kind === 'cached') {
        const { metrics, tables, finishedAt, durationMs } = decision.entry;
        this.#counts.cached++;
        this.#outputs.set(stage.name, decision.outputs);
        await workspace.markLast(scope, stage.name, fingerprint.digest);
        events.emit({
          type: 'stage-cached',
          stage: stage.name,
          fingerprint: fingerprint.digest,
          outputs: decision.outputs,
          metrics,
          tables,
          finishedAt,
          durationMs,
        });
        return this.#judge(stage, metrics, decision.outputs);
      }
      if (decision.warning) events.emit({ type: 'stage-warn', stage: stage.name, message: decision.warning });
      events.emit({
        type: 'stage-planned',
        stage: stage.name,
        fingerprint: fingerprint.digest,
        reason: decision.reason,
        needsDevice: stage.resources.device,
      });
      if (decision.reason.kind === 'forced') {
        await workspace.dropCache(fingerprint.digest);
        await workspace.removeWork(fingerprint.digest);
      }
      if (decision.reason.kind === 'damaged') await this.#dropDamaged(fingerprint.digest);
      return await this.#runOnDevice(stage, fingerprint, inputs, onStart);
    } finally {
      this.#inFlight.delete(fingerprint.digest);
      leave();
    }
  }

  /** Takes the result out of the cache, and those of its artifacts that are not what they should be out of the store. */
  async #dropDamaged(fingerprint: string): Promise<void> {
    const { workspace } = this.#options;
    const entry = await workspace.readCache(fingerprint);
    await workspace.dropCache(fingerprint);
    for (const { digest } of Object.values(entry?.outputs ?? {})) {
      if ((await workspace.store.inspect(digest)).state === 'damaged') await workspace.store.remove(digest);
    }
  }

  async #runOnDevice(
    stage: PlannedStage,
    fingerprint: Fingerprint,
    inputs: ReadonlyMap<string, Artifact>,
    onStart: () => void,
  ): Promise<StageEnd> {
    const { signal } = this.#options;
    const { device: needsDevice, memoryBytes } = stage.resources;
    // The device comes before the slot, so that a stage in the device's queue keeps no other stage from running.
    const lease = needsDevice ? await this.#lend(stage, { holder: stage.name, memoryBytes, signal }) : undefined;
    try {
      const giveBack = await this.#slots.take(signal);
      try {
        onStart();
        this.#unsettled.add(stage.name);
        return await this.#runStage(stage, fingerprint, inputs, lease);
      } finally {
        giveBack();
      }
    } finally {
      await lease?.[Symbol.asyncDispose]();
    }
  }

  async #lend(stage: PlannedStage, request: Parameters<ExecuteOptions['lease']>[0]): Promise<Lease> {
    const { events } = this.#options;
    const askedAt = performance.now();
    const lease = await this.#options.lease(request);
    const leasedAt = performance.now();
    const device = lease.device.id;
    events.emit({ type: 'device-leased', device, stage: stage.name, waitedMs: Math.round(leasedAt - askedAt) });
    return {
      device: lease.device,
      get runtime() {
        return lease.runtime;
      },
      session: (key, create) => lease.session(key, create),
      [Symbol.asyncDispose]: async () => {
        // Told before it is given back, so that no other holder can seem to have had it at the same time.
        const heldMs = Math.round(performance.now() - leasedAt);
        const { leases, leasedMs } = this.#usage.get(device) ?? { leases: 0, leasedMs: 0 };
        this.#usage.set(device, { leases: leases + 1, leasedMs: leasedMs + heldMs });
        if (!this.#isOver) events.emit({ type: 'device-released', device, stage: stage.name, heldMs });
        await lease[Symbol.asyncDispose]();
      },
    };
  }

  async #runStage(
    stage: PlannedStage,
    fingerprint: Fingerprint,
    inputs: ReadonlyMap<string, Artifact>,
    lease: Lease | undefined,
  ): Promise<StageEnd> {
    const { workspace, events, plan } = this.#options;
    const { definition, name } = stage;
    const startedAt = performance.now();
    const resumes = await workspace.hasState(fingerprint.digest);
    const work = await workspace.prepareWork(fingerprint.digest, Object.keys(definition.outputs));
    events.emit({ type: 'stage-started', stage: name, resumes, device: lease?.device.id ?? null });

    const options = optionsWithArtifacts(stage.options, inputs);
    const result = await definition.run(this.#contextOf(stage, options, work, lease));
    checkResult(stage, result);

    const outputs: Record<string, OutputRecord> = {};
    for (const [output, { type }] of Object.entries(definition.outputs)) {
      const manifest = await this.#commit(stage, output, work.outputs[output]!);
      outputs[output] = { type, digest: manifest.digest, path: workspace.store.pathOf(manifest.digest) };
    }
    const metrics = result.metrics ?? {};
    const tables = result.tables ?? [];
    const durationMs = Math.round(performance.now() - startedAt);
    await workspace.writeCache(plan.pipeline.name, {
      version: 1,
      fingerprint: fingerprint.digest,
      fields: fingerprint.fields,
      stage: name,
      outputs: Object.fromEntries(Object.entries(outputs).map(([key, { type, digest }]) => [key, { type, digest }])),
      metrics,
      tables,
      durationMs,
      finishedAt: new Date().toISOString(),
    });
    await workspace.removeWork(fingerprint.digest);

    if (this.#isOver) return { isOk: false };
    this.#counts.ran++;
    this.#outputs.set(name, outputs);
    events.emit({
      type: 'stage-finished',
      stage: name,
      fingerprint: fingerprint.digest,
      durationMs,
      outputs,
      metrics,
      tables,
    });
    return this.#judge(stage, metrics, outputs);
  }

  async #commit(stage: PlannedStage, output: string, directory: string) {
    try {
      return await this.#options.workspace.store.commit(directory);
    } catch (cause) {
      if (!(cause instanceof Fr1Error) || cause.code !== 'ARTIFACT_INVALID') throw cause;
      throw new Fr1Error('STAGE_RESULT_INVALID', `stage "${stage.name}" left output "${output}" unusable`, { cause });
    }
  }

  /** Expectations are not part of the fingerprint, so cached results are tested like fresh ones. */
  #judge(stage: PlannedStage, metrics: NonNullable<StageResult['metrics']>, outputs: StageOutputs): StageEnd {
    const missed = checkExpectations(stage, metrics).filter((expectation) => !expectation.met);
    for (const expectation of missed) {
      this.#options.events.emit({ type: 'stage-expectation-failed', stage: stage.name, expectation });
    }
    if (missed.length === 0) return { isOk: true, outputs };
    this.#fail(1);
    return { isOk: false };
  }

  #contextOf(
    stage: PlannedStage,
    options: Record<string, unknown>,
    work: { state: string; outputs: Record<string, string> },
    lease: Lease | undefined,
  ): StageContext {
    const { events, signal } = this.#options;
    const { name } = stage;
    const emit: RunEventHub['emit'] = (event) => {
      // A stage that does not react to the abort may still talk after the run has ended.
      if (!this.#isOver) events.emit(event);
    };
    let lastProgressAt = Number.NEGATIVE_INFINITY;
    return {
      name,
      options,
      outputs: work.outputs,
      state: work.state,
      pipelineFolder: this.#options.plan.pipeline.folder,
      seed: stage.seed,
      signal,
      get lease(): Lease {
        if (lease) return lease;
        throw new Fr1Error('RUNTIME_UNAVAILABLE', `stage "${name}" uses a device without asking for one`, {
          hint: 'its `resources` must return `device: true`',
        });
      },
      log: (message) => emit({ type: 'stage-log', stage: name, message }),
      warn: (message) => emit({ type: 'stage-warn', stage: name, message }),
      progress: (progress: Progress) => {
        const now = performance.now();
        if (progress.done < progress.total && now - lastProgressAt < PROGRESS_INTERVAL_MS) return;
        lastProgressAt = now;
        emit({ type: 'stage-progress', stage: name, ...progress });
      },
      metric: (step, values) => emit({ type: 'stage-metric', stage: name, step, values }),
    };
  }
}

function checkResult(stage: PlannedStage, result: StageResult): void {
  for (const [name, metric] of Object.entries(result.metrics ?? {})) {
    if (Number.isFinite(metric.value)) continue;
    throw new Fr1Error('STAGE_RESULT_INVALID', `stage "${stage.name}" returned ${metric.value} as metric "${name}"`);
  }
}

/** Resolves a while after the abort, or never when the work ends before. */
function settleAfterAbort(signal: AbortSignal, settleMs: number, work: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const onAbort = () => {
      const timer = setTimeout(resolve, settleMs);
      const stop = () => clearTimeout(timer);
      work.then(stop, stop);
    };
    if (signal.aborted) onAbort();
    else {
      signal.addEventListener('abort', onAbort, { once: true });
      const forget = () => signal.removeEventListener('abort', onAbort);
      work.then(forget, forget);
    }
  });
}
