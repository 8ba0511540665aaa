/**
 * Runs a plan: each stage as soon as what it needs is finished, from the cache where the same work was done before.
 *
 * It emits events and writes to the workspace; it knows no terminal and no process. After a failure no further stage
 * starts, unless the run is to keep going; those under way end, and what they made is kept. An abort stops all, and leaves
 * checkpoints from which the next run continues.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Artifact } from '../artifacts/types.ts';
import { Secrets } from '../config/secrets.ts';
import { exitCodeOf } from '../errors/format.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { Fingerprint, Numerics, Plan, PlannedStage } from '../plan/types.ts';
import type { Lease } from '../pool/lease.ts';
import { delayAfter, withinTime } from './attempts.ts';
import { decideStart, type StageEnd } from './decide-start.ts';
import { explainDiskError } from './disk-error.ts';
import { errorRecordOf } from './error-record.ts';
import type { OutputRecord, RunEventHub } from './events.ts';
import { checkExpectations } from './expectations.ts';
import { MemoryWatch } from './memory-watch.ts';
import { providerOf } from './numerics.ts';
import { placeInputError } from './place-input-error.ts';
import { OutputPlacer } from './place-outputs.ts';
import { type Quiet, QuietWatch } from './quiet-watch.ts';
import {
  consultCache,
  fingerprintWith,
  optionsWithArtifacts,
  resolveInputs,
  type StageOutputs,
} from './resolve-stage.ts';
import { Slots } from './slots.ts';
import type { StageResult } from './stage-api.ts';
import { stageContext } from './stage-context.ts';
import { summariseStage } from './summarise-stage.ts';
import type { Workspace } from './workspace.ts';

/** How long stages may take to come to rest after an abort. */
const SETTLE_MS = 1_500;
/** How long a running stage may say nothing before that is told. */
const QUIET_MS = 60_000;

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
  /** Values that options name as `${{ env.NAME }}`. @default none */
  readonly secrets?: Secrets;
  /** Whether stages that do not need a failed one still start. @default false */
  readonly keepGoing?: boolean;
  /** Called with each fingerprint before it is used; what it throws fails the stage. @default nothing */
  readonly onFingerprint?: (stage: string, fingerprint: Fingerprint) => void;
  /** @default 1500 */
  readonly settleMs?: number;
  /** @default 60000 */
  readonly quietMs?: number;
}

export interface RunOutcome {
  readonly status: 'done' | 'failed' | 'interrupted';
  readonly ran: number;
  readonly cached: number;
  readonly failed: number;
  readonly skipped: number;
  /** Of a failed run: 2 when what the user gave is wrong, 1 when only stages or expectations failed; else 0. */
  readonly faultCode: 0 | 1 | 2;
}

export async function executePlan(options: ExecuteOptions): Promise<RunOutcome> {
  return new PlanExecution(options).run();
}

class PlanExecution {
  readonly #options: ExecuteOptions;
  readonly #slots: Slots;
  readonly #ends = new Map<string, Promise<StageEnd>>();
  /** How stages ended that have. */
  readonly #ended = new Map<string, StageEnd>();
  /** Stages under way by fingerprint: the same work is not done twice at once. */
  readonly #inFlight = new Map<string, Promise<void>>();
  readonly #unsettled = new Set<string>();
  /** By device: how often and how long it was lent. */
  readonly #usage = new Map<string, { leases: number; leasedMs: number }>();
  readonly #placer: OutputPlacer;
  readonly #counts = { ran: 0, cached: 0, failed: 0, skipped: 0 };
  /** Fires when no further stage may start: after the abort, or after a failure with the stage's name as reason. */
  readonly #noMoreStarts: AbortSignal;
  readonly #firstFailure = new AbortController();
  #faultCode: RunOutcome['faultCode'] = 0;
  #isOver = false;

  constructor(options: ExecuteOptions) {
    this.#options = options;
    this.#slots = new Slots(options.jobs);
    this.#placer = new OutputPlacer(options.workspace);
    this.#noMoreStarts = options.keepGoing
      ? options.signal
      : AbortSignal.any([options.signal, this.#firstFailure.signal]);
    // Every waiting stage listens to these; that is no leak.
    setMaxListeners(0, options.signal, this.#noMoreStarts);
  }

  async run(): Promise<RunOutcome> {
    const { plan, events, signal, workspace, runId, device, numerics } = this.#options;
    const startedAt = performance.now();
    // Numerics may name a precision behind it.
    const provider = providerOf(numerics);
    events.emit({
      type: 'run-started',
      version: 1,
      run: runId,
      pipeline: plan.pipeline.name,
      file: plan.pipeline.file,
      workspace: workspace.directory,
      seed: plan.pipeline.seed,
      device,
      stages: plan.order.map((stage) => summariseStage(stage, provider)),
    });

    for (const stage of plan.order) this.#ends.set(stage.name, this.#runToEnd(stage));
    const all = Promise.all(this.#ends.values());
    await Promise.race([all, settleAfterAbort(signal, this.#options.settleMs ?? SETTLE_MS, all)]);
    for (const stage of this.#unsettled) events.emit({ type: 'stage-stopped', stage, why: 'interrupted' });
    this.#isOver = true;
    await workspace.flush().catch((error: unknown) => {
      const { message } = errorRecordOf(explainDiskError(error, workspace.directory));
      events.emit({ type: 'run-warn', message: `why stages run again will not be known next time: ${message}` });
    });

    const status = signal.aborted ? 'interrupted' : this.#counts.failed > 0 ? 'failed' : 'done';
    const durationMs = Math.round(performance.now() - startedAt);
    for (const [id, { leases, leasedMs }] of this.#usage) {
      const share = durationMs === 0 ? 0 : Math.min(1, leasedMs / durationMs);
      events.emit({ type: 'device-usage', device: id, leases, leasedMs, share });
    }
    events.emit({ type: 'run-finished', status, durationMs, ...this.#counts, record: this.#options.recordPath });
    return { status, ...this.#counts, faultCode: this.#faultCode };
  }

  #fail(stage: string, faultCode: 1 | 2): void {
    this.#counts.failed++;
    if (faultCode > this.#faultCode) this.#faultCode = faultCode;
    this.#firstFailure.abort(stage);
  }

  async #runToEnd(stage: PlannedStage): Promise<StageEnd> {
    for (const need of stage.dependencies) await this.#ends.get(need);
    const end = await this.#startOrNot(stage);
    this.#ended.set(stage.name, end);
    if (end.kind === 'succeeded') await this.#placeOutputs(stage, end.outputs);
    return end;
  }

  /** Never rejects: whatever goes wrong becomes an event. */
  async #startOrNot(stage: PlannedStage): Promise<StageEnd> {
    const { events, signal, workspace } = this.#options;
    const { name } = stage;
    // Stages that ask about failures must start after one.
    const mayStart = stage.if?.toleratesFailure ? signal : this.#noMoreStarts;
    let startedAt: number | undefined;
    try {
      signal.throwIfAborted();
      const decision = decideStart(stage, this.#ended);
      if (decision.kind === 'blocked') {
        events.emit({ type: 'stage-stopped', stage: name, why: 'blocked', by: decision.by });
        return { kind: 'failed' };
      }
      if (decision.kind === 'skipped') {
        this.#counts.skipped++;
        events.emit({ type: 'stage-skipped', stage: name, why: decision.why });
        return { kind: 'skipped' };
      }
      mayStart.throwIfAborted();
      return await this.#cachedOrRun(stage, mayStart, () => {
        startedAt ??= performance.now();
      });
    } catch (error) {
      if (this.#isOver) return { kind: 'failed' };
      const wasRunning = startedAt !== undefined;
      if (signal.aborted) {
        events.emit({ type: 'stage-stopped', stage: name, why: wasRunning ? 'interrupted' : 'not-started' });
      } else if (!wasRunning && mayStart.aborted && error === mayStart.reason) {
        events.emit({ type: 'stage-stopped', stage: name, why: 'not-started', by: String(mayStart.reason) });
      } else {
        const placed = placeInputError(explainDiskError(error, workspace.directory), stage);
        this.#fail(name, exitCodeOf(placed) === 2 ? 2 : 1);
        const durationMs = startedAt === undefined ? 0 : Math.round(performance.now() - startedAt);
        events.emit({ type: 'stage-failed', stage: name, durationMs, error: errorRecordOf(placed) });
      }
      return { kind: 'failed' };
    } finally {
      this.#unsettled.delete(name);
    }
  }

  async #cachedOrRun(stage: PlannedStage, mayStart: AbortSignal, onStart: () => void): Promise<StageEnd> {
    const { events, signal, workspace, numerics, plan } = this.#options;
    const scope = plan.pipeline.name;
    const outputsOf = (name: string) => {
      const end = this.#ended.get(name);
      return end?.kind === 'succeeded' ? end.outputs : {};
    };
    const inputs = await resolveInputs(stage, outputsOf, workspace, { remember: true, signal });
    const fingerprint = fingerprintWith(stage, inputs, numerics);
    this.#options.onFingerprint?.(stage.name, fingerprint);

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
        await workspace.markLast(scope, stage.name, fingerprint.digest);
        events.emit({
          type: 'stage-cached',
          stage: stage.name,
          fingerprint: fingerprint.digest,
          inputs: fingerprint.fields.inputs,
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
        inputs: fingerprint.fields.inputs,
        reason: decision.reason,
        needsDevice: stage.resources.device,
      });
      if (decision.reason.kind === 'forced') {
        await workspace.dropCache(fingerprint.digest);
        await workspace.removeWork(fingerprint.digest);
      }
      if (decision.reason.kind === 'damaged') await this.#dropDamaged(fingerprint.digest);
      return await this.#attempt(stage, fingerprint, inputs, mayStart, onStart);
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

  /** Attempts until one succeeds or none is left; device and place go back for the wait between two. */
  async #attempt(
    stage: PlannedStage,
    fingerprint: Fingerprint,
    inputs: ReadonlyMap<string, Artifact>,
    mayStart: AbortSignal,
    onStart: () => void,
  ): Promise<StageEnd> {
    const { events, signal } = this.#options;
    for (let attempt = 1; ; attempt++) {
      // A stage that has started may try again although another one has failed meanwhile.
      const start = attempt === 1 ? mayStart : signal;
      let delayMs: number | undefined;
      try {
        return await this.#runOnDevice(stage, fingerprint, inputs, start, onStart, (error) => {
          delayMs = signal.aborted ? undefined : delayAfter(stage.retry, attempt, error);
          if (delayMs === undefined && !signal.aborted) this.#firstFailure.abort(stage.name);
        });
      } catch (error) {
        if (delayMs === undefined) throw error;
        const attempts = 1 + (stage.retry?.times ?? 0);
        events.emit({
          type: 'stage-retrying',
          stage: stage.name,
          attempt,
          attempts,
          delayMs,
          error: errorRecordOf(error),
        });
        await sleep(delayMs, undefined, { signal });
      }
    }
  }

  async #runOnDevice(
    stage: PlannedStage,
    fingerprint: Fingerprint,
    inputs: ReadonlyMap<string, Artifact>,
    mayStart: AbortSignal,
    onStart: () => void,
    onFailure: (error: unknown) => void,
  ): Promise<StageEnd> {
    const { device: needsDevice, memoryBytes, slots } = stage.resources;
    // The device comes before the slot, so that a stage in the device's queue keeps no other stage from running.
    const request = { holder: stage.name, memoryBytes, signal: mayStart };
    const lease = needsDevice ? await this.#lend(stage, request) : undefined;
    try {
      const giveBack = await this.#slots.take(mayStart, slots);
      try {
        onStart();
        this.#unsettled.add(stage.name);
        return await this.#runStage(stage, fingerprint, inputs, lease);
      } catch (error) {
        // Told before the place is free, so that no stage takes it that must no longer start.
        onFailure(error);
        throw error;
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
      get memory() {
        return lease.memory;
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
    const { workspace, events, plan, signal } = this.#options;
    const { definition, name } = stage;
    const startedAt = performance.now();
    const resumes = await workspace.hasState(fingerprint.digest);
    const work = await workspace.prepareWork(fingerprint.digest, Object.keys(definition.outputs));
    events.emit({ type: 'stage-started', stage: name, resumes, device: lease?.device.id ?? null });

    const options = this.#secrets.reveal(optionsWithArtifacts(stage.options, inputs));
    const { timeoutMs } = stage;
    const limits = { stage: name, timeoutMs, settleMs: this.#options.settleMs ?? SETTLE_MS, signal };
    using watch = new QuietWatch(this.#options.quietMs ?? QUIET_MS, (quiet) => this.#tellQuiet(stage, quiet));
    using memory = new MemoryWatch();
    let expectedBytes: number | undefined;
    const result = await withinTime(limits, (attemptSignal) => {
      let isCurrent = true;
      attemptSignal.addEventListener('abort', () => setTimeout(() => (isCurrent = false), limits.settleMs).unref(), {
        once: true,
      });
      return definition.run(
        stageContext({
          stage,
          options,
          work,
          lease,
          signal: attemptSignal,
          pipelineFolder: plan.pipeline.folder,
          watch,
          onExpectedMemory: (bytes) => {
            expectedBytes = bytes;
          },
          // What a stage that does not react to the abort still says is nobody's concern.
          emit: (event) => {
            if (!this.#isOver && isCurrent) events.emit(event);
          },
        }),
      );
    });
    checkResult(stage, result);

    const outputs: Record<string, OutputRecord> = {};
    for (const [output, { type }] of Object.entries(definition.outputs)) {
      const manifest = await this.#commit(stage, output, work.outputs[output]!);
      outputs[output] = { type, digest: manifest.digest, path: workspace.store.pathOf(manifest.digest) };
    }
    const metrics = result.metrics ?? {};
    const tables = this.#secrets.mask(result.tables ?? []);
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

    if (this.#isOver) return { kind: 'failed' };
    this.#counts.ran++;
    events.emit({
      type: 'stage-finished',
      stage: name,
      fingerprint: fingerprint.digest,
      durationMs,
      memory: { expectedBytes, startBytes: memory.startBytes, peakBytes: memory.peakBytes },
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
    const metricsOf = (name: string) => {
      const end = this.#ended.get(name);
      return end?.kind === 'succeeded' ? end.metrics : {};
    };
    const missed = checkExpectations(stage.expect, metrics, metricsOf).filter(({ met }) => !met);
    for (const expectation of missed) {
      this.#options.events.emit({ type: 'stage-expectation-failed', stage: stage.name, expectation });
    }
    if (missed.length === 0) return { kind: 'succeeded', outputs, metrics };
    this.#fail(stage.name, 1);
    return { kind: 'failed' };
  }

  /** A place that cannot be filled fails the run; the result is in the store all the same. */
  async #placeOutputs(stage: PlannedStage, outputs: StageOutputs): Promise<void> {
    const { plan, events, workspace } = this.#options;
    for (const output of plan.pipeline.outputs) {
      const artifact = output.source.stage === stage.name ? outputs[output.source.output] : undefined;
      if (!artifact || this.#isOver) continue;
      const { written, path, mode } = output;
      try {
        const isNew = await this.#placer.place(output, artifact);
        events.emit({ type: 'output-placed', output: written, path, digest: artifact.digest, mode, isNew });
      } catch (cause) {
        const error = explainDiskError(cause, workspace.directory);
        this.#fail(stage.name, exitCodeOf(error) === 2 ? 2 : 1);
        events.emit({ type: 'output-failed', output: written, path, error: errorRecordOf(error) });
      }
    }
  }

  #tellQuiet(stage: PlannedStage, { quietMs, at }: Quiet): void {
    if (this.#isOver) return;
    const place = at ? `it was at ${at.done} of ${at.total} ${at.unit}` : 'it has told no progress yet';
    const limit = stage.timeoutMs === undefined ? '; a `timeout` would end it, with `retry` begin it again' : '';
    const hint = `${place}; Ctrl-C is safe, the next run goes on from what it has saved${limit}`;
    this.#options.events.emit({ type: 'stage-quiet', stage: stage.name, quietMs, hint });
  }

  get #secrets(): Secrets {
    return this.#options.secrets ?? NO_SECRETS;
  }
}

const NO_SECRETS = Secrets.read([], {});

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
