/** What a run would do, without doing anything: the order, what is cached, why the rest runs. Writes nothing. */
import type { Numerics, Plan } from '../plan/types.ts';
import type { RunReason } from './events.ts';
import { consultCache, fingerprintWith, resolveInputs, type StageOutputs } from './resolve-stage.ts';
import type { Workspace } from './workspace.ts';

export type StageForecast = { readonly name: string; readonly kind: string } & (
  | { readonly will: 'reuse'; readonly finishedAt: string; readonly durationMs: number }
  | { readonly will: 'run'; readonly reason: RunReason; readonly resumes: boolean }
  /** Its inputs come from stages that run first: whether it can be reused is known when they are done. */
  | { readonly will: 'depend'; readonly on: readonly string[] }
);

export async function forecastRun(plan: Plan, workspace: Workspace, numerics: Numerics): Promise<StageForecast[]> {
  const forecasts: StageForecast[] = [];
  const outputs = new Map<string, StageOutputs>();
  for (const stage of plan.order) {
    const base = { name: stage.name, kind: stage.definition.kind };
    const inputStages = stage.inputs.flatMap(({ source }) => (source.kind === 'artifact-ref' ? [source.stage] : []));
    const unknown = [...new Set(inputStages)].filter((name) => !outputs.has(name));
    if (unknown.length > 0) {
      forecasts.push(
        stage.forced
          ? { ...base, will: 'run', reason: { kind: 'forced' }, resumes: false }
          : { ...base, will: 'depend', on: unknown },
      );
      continue;
    }
    const inputs = await resolveInputs(stage, (name) => outputs.get(name) ?? {}, workspace, { remember: false });
    const fingerprint = fingerprintWith(stage, inputs, numerics);
    const decision = await consultCache(stage, fingerprint, workspace, plan.pipeline.name);
    if (decision.kind === 'cached') {
      outputs.set(stage.name, decision.outputs);
      const { finishedAt, durationMs } = decision.entry;
      forecasts.push({ ...base, will: 'reuse', finishedAt, durationMs });
    } else {
      const resumes = decision.reason.kind !== 'forced' && (await workspace.hasState(fingerprint.digest));
      forecasts.push({ ...base, will: 'run', reason: decision.reason, resumes });
    }
  }
  return forecasts;
}
