/** What a run would do, without doing anything: the order, what is cached, why the rest runs. Writes nothing. */
import { setMaxListeners } from 'node:events';
import type { Numerics, Plan, PlannedStage } from '../plan/types.ts';
import type { RunReason } from './events.ts';
import { consultCache, fingerprintWith, resolveInputs, type StageOutputs } from './resolve-stage.ts';
import { Slots } from './slots.ts';
import type { Workspace } from './workspace.ts';

export type StageForecast = {
  readonly name: string;
  readonly kind: string;
  /** How long the stage took when it last ran, under whatever options; absent when it never did. */
  readonly estimatedMs?: number;
  /** Memory that it asks for, where that is known. */
  readonly memoryBytes?: number;
} & (
  | { readonly will: 'reuse'; readonly finishedAt: string; readonly durationMs: number }
  | { readonly will: 'run'; readonly reason: RunReason; readonly resumes: boolean }
  /** Its inputs come from stages that run first: whether it can be reused is known when they are done. */
  | { readonly will: 'depend'; readonly on: readonly string[] }
  /** Its condition is false, or it takes an output of `because`, which is skipped. */
  | { readonly will: 'skip'; readonly because?: string }
);

/** Stages that are looked up at the same time. */
const CONCURRENCY = 32;

/** @param onReuse told the outputs of each stage that can be reused */
export async function forecastRun(
  plan: Plan,
  workspace: Workspace,
  numerics: Numerics,
  onReuse: (stage: string, outputs: StageOutputs) => void = () => {},
): Promise<StageForecast[]> {
  const forecasts = new Map<string, Promise<StageForecast>>();
  const outputs = new Map<string, StageOutputs>();
  const slots = new Slots(CONCURRENCY);
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  for (const stage of plan.order) {
    forecasts.set(
      stage.name,
      (async () => {
        const before = await Promise.all(stage.dependencies.map((name) => forecasts.get(name)!));
        const skipped = before.filter(({ will }) => will === 'skip').map(({ name }) => name);
        const giveBack = await slots.take(signal);
        try {
          return await forecastStage(stage, skipped, { plan, workspace, numerics, outputs, onReuse });
        } finally {
          giveBack();
        }
      })(),
    );
  }
  return Promise.all(forecasts.values());
}

interface Surroundings {
  readonly plan: Plan;
  readonly workspace: Workspace;
  readonly numerics: Numerics;
  /** Of the stages that can be reused, by name. */
  readonly outputs: Map<string, StageOutputs>;
  readonly onReuse: (stage: string, outputs: StageOutputs) => void;
}

async function forecastStage(
  stage: PlannedStage,
  skipped: readonly string[],
  { plan, workspace, numerics, outputs, onReuse }: Surroundings,
): Promise<StageForecast> {
  const scope = plan.pipeline.name;
  const { memoryBytes } = stage.resources;
  const base = {
    name: stage.name,
    kind: stage.definition.kind,
    ...(memoryBytes !== undefined && { memoryBytes }),
  };
  if (stage.if?.constant === false) return { ...base, will: 'skip' };
  const inputStages = stage.inputs.flatMap(({ source }) => (source.kind === 'artifact-ref' ? [source.stage] : []));
  const because = inputStages.find((name) => skipped.includes(name));
  if (because !== undefined) return { ...base, will: 'skip', because };

  const lastMs = (await workspace.readLastOf(scope, stage.name))?.durationMs;
  const estimated = { ...base, ...(lastMs !== undefined && { estimatedMs: lastMs }) };
  const unknown = [...new Set(inputStages)].filter((name) => !outputs.has(name));
  if (unknown.length > 0) {
    return stage.forced
      ? { ...estimated, will: 'run', reason: { kind: 'forced' }, resumes: false }
      : { ...estimated, will: 'depend', on: unknown };
  }
  const inputs = await resolveInputs(stage, (name) => outputs.get(name) ?? {}, workspace, { remember: false });
  const fingerprint = fingerprintWith(stage, inputs, numerics);
  const decision = await consultCache(stage, fingerprint, workspace, scope);
  if (decision.kind === 'cached') {
    outputs.set(stage.name, decision.outputs);
    onReuse(stage.name, decision.outputs);
    const { finishedAt, durationMs } = decision.entry;
    return { ...base, estimatedMs: durationMs, will: 'reuse', finishedAt, durationMs };
  }
  const resumes = decision.reason.kind !== 'forced' && (await workspace.hasState(fingerprint.digest));
  return { ...estimated, will: 'run', reason: decision.reason, resumes };
}
