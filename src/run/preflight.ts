/**
 * Looks at everything that a run needs and that exists already: data row by row, model folders, room on the disk. Takes no
 * device and writes nothing. Stages are looked at side by side; a stage whose inputs are not made yet checks the rest.
 */
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import type { Artifact } from '../artifacts/types.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { Numerics, Plan, PlannedStage } from '../plan/types.ts';
import { forecastRun, type StageForecast } from './forecast.ts';
import { providerOf } from './numerics.ts';
import { placeInputError } from './place-input-error.ts';
import { optionsWithArtifacts } from './resolve-stage.ts';
import { Slots } from './slots.ts';
import type { Checkable, CheckContext, Progress } from './stage-api.ts';
import type { Workspace } from './workspace.ts';

export interface StageFindings {
  readonly stage: string;
  /** `cached`: its result is there, so nothing was looked at. */
  readonly state: 'checked' | 'cached' | 'skipped' | 'nothing-to-check';
  readonly found: readonly string[];
  readonly problems: readonly Error[];
  /** Artifact options that earlier stages will make. */
  readonly pending: readonly string[];
}

export interface Preflight {
  readonly stages: readonly StageFindings[];
  /** Of no stage in particular. */
  readonly problems: readonly Error[];
  readonly disk: { readonly neededBytes: number; readonly freeBytes: number };
}

export interface PreflightOptions {
  readonly plan: Plan;
  readonly workspace: Workspace;
  readonly numerics: Numerics;
  /** Stages that are looked at at the same time. */
  readonly jobs: number;
  readonly signal: AbortSignal;
  onProgress?(stage: string, progress: Progress | undefined): void;
}

/** Room that a run wants beside what its stages ask for: records, logs, small outputs. */
const DISK_MARGIN_BYTES = 64 * 2 ** 20;

export async function preflight(options: PreflightOptions): Promise<Preflight> {
  const { plan, workspace, numerics, jobs, signal } = options;
  const outputs = new Map<string, ReadonlyMap<string, Artifact>>();
  const forecasts = await forecastRun(plan, workspace, numerics, (stage, made) => {
    outputs.set(stage, new Map(Object.entries(made)));
  });
  const slots = new Slots(jobs);
  let neededBytes = DISK_MARGIN_BYTES;
  const stages = await Promise.all(
    plan.order.map(async (stage, i) => {
      const giveBack = await slots.take(signal);
      try {
        return await checkStage(stage, forecasts[i]!, outputs, options, (bytes) => {
          neededBytes += bytes;
        });
      } finally {
        giveBack();
      }
    }),
  );
  const freeBytes = await freeBytesAt(workspace.directory);
  const problems: Error[] = [];
  if (freeBytes < neededBytes) {
    const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
    problems.push(
      new Fr1Error(
        'DISK_ROOM',
        `the run needs about ${gibibytes(neededBytes)} in ${workspace.directory}, where ${gibibytes(freeBytes)} are free`,
        { hint: 'make room (`fr1 gc` removes what no run needs), or choose another place with --workspace' },
      ),
    );
  }
  return { stages, problems, disk: { neededBytes, freeBytes } };
}

async function checkStage(
  stage: PlannedStage,
  forecast: StageForecast,
  outputs: ReadonlyMap<string, ReadonlyMap<string, Artifact>>,
  { numerics, signal, onProgress }: PreflightOptions,
  needsDisk: (bytes: number) => void,
): Promise<StageFindings> {
  const artifacts = new Map<string, Artifact | null>();
  for (const { pointer, source } of stage.inputs) {
    const made =
      source.kind === 'local-input'
        ? { type: source.type, path: source.path, digest: '' }
        : (outputs.get(source.stage)?.get(source.output) ?? null);
    artifacts.set(pointer, made);
  }
  const pending = [...artifacts].filter(([, made]) => made === null).map(([pointer]) => pointer.slice(1));
  const base = { stage: stage.name, found: [], problems: [], pending };
  if (forecast.will === 'skip') return { ...base, state: 'skipped' };
  if (forecast.will === 'reuse') return { ...base, state: 'cached' };
  if (stage.definition.check === undefined) return { ...base, state: 'nothing-to-check' };
  const found: string[] = [];
  const problems: Error[] = [];
  const problem = (error: Error) => {
    problems.push(placeInputError(error, stage) as Error);
    if (error instanceof Fr1Error) error.others.forEach(problem);
  };
  const context: CheckContext = {
    name: stage.name,
    options: optionsWithArtifacts(stage.options, artifacts) as Checkable<Record<string, unknown>>,
    provider: providerOf(numerics),
    signal,
    progress: (progress) => onProgress?.(stage.name, progress),
    problem,
    found: (message) => found.push(message),
    needsDisk,
  };
  try {
    await stage.definition.check(context);
  } catch (error) {
    signal.throwIfAborted();
    problem(error instanceof Error ? error : new Error(String(error)));
  } finally {
    onProgress?.(stage.name, undefined);
  }
  return { ...base, state: 'checked', found, problems };
}

/** Free bytes where the folder is or will be. */
async function freeBytesAt(folder: string): Promise<number> {
  for (let at = folder; ; at = path.dirname(at)) {
    try {
      const { bavail, bsize } = await statfs(at);
      return bavail * bsize;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || at === path.dirname(at)) throw error;
    }
  }
}
