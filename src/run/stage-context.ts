/** What a running stage is given to speak and work with, made of the executor's parts. */
import { Fr1Error } from '../errors/fr1-error.ts';
import type { PlannedStage } from '../plan/types.ts';
import type { Lease } from '../pool/lease.ts';
import type { RunEventHub } from './events.ts';
import type { QuietWatch } from './quiet-watch.ts';
import type { Progress, StageContext } from './stage-api.ts';

/** Progress events of one stage are at least this far apart, the last one excepted. */
const PROGRESS_INTERVAL_MS = 100;

export interface ContextParts {
  readonly stage: PlannedStage;
  /** With artifacts and secrets in place. */
  readonly options: Record<string, unknown>;
  readonly work: { readonly state: string; readonly outputs: Readonly<Record<string, string>> };
  readonly lease: Lease | undefined;
  readonly signal: AbortSignal;
  readonly pipelineFolder: string;
  readonly watch: QuietWatch;
  readonly emit: RunEventHub['emit'];
  onExpectedMemory(bytes: number): void;
}

export function stageContext(parts: ContextParts): StageContext {
  const { stage, options, work, lease, signal, pipelineFolder, watch, emit, onExpectedMemory } = parts;
  const { name } = stage;
  let lastProgressAt = Number.NEGATIVE_INFINITY;
  return {
    name,
    options,
    outputs: work.outputs,
    state: work.state,
    pipelineFolder,
    seed: stage.seed,
    signal,
    get lease(): Lease {
      if (lease) return lease;
      throw new Fr1Error('RUNTIME_UNAVAILABLE', `stage "${name}" uses a device without asking for one`, {
        hint: 'its `resources` must return `device: true`',
      });
    },
    log: (message) => {
      watch.sign();
      emit({ type: 'stage-log', stage: name, message });
    },
    warn: (message) => {
      watch.sign();
      emit({ type: 'stage-warn', stage: name, message });
    },
    expectMemory: (bytes, given = {}) => {
      const expectedBytes = Math.round(bytes);
      const parts = Object.fromEntries(Object.entries(given).map(([part, own]) => [part, Math.round(own)]));
      watch.sign();
      onExpectedMemory(expectedBytes);
      emit({ type: 'stage-memory', stage: name, expectedBytes, parts });
    },
    progress: (progress: Progress) => {
      watch.sign(progress);
      const now = performance.now();
      if (progress.done < progress.total && now - lastProgressAt < PROGRESS_INTERVAL_MS) return;
      lastProgressAt = now;
      emit({ type: 'stage-progress', stage: name, ...progress });
    },
    metric: (step, values) => {
      watch.sign();
      emit({ type: 'stage-metric', stage: name, step, values });
    },
  };
}
