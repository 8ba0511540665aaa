/**
 * fr1.lock: what a run resolved to and what it made, as JSON. Every run leaves one in its folder; `--lock` also writes it
 * beside the pipeline file, to be committed. With it a later run can tell whether it is the same run, and if not, what
 * differs first. docs/run-format.md describes it for readers.
 */
import { isDeepStrictEqual } from 'node:util';
import { Fr1Error } from '../errors/fr1-error.ts';
import { explainRerun } from '../plan/explain-rerun.ts';
import { fingerprintStage } from '../plan/fingerprint.ts';
import type { FieldChange, Fingerprint, FingerprintFields, Numerics, Plan, PlannedStage } from '../plan/types.ts';
import { packageVersion } from './numerics.ts';
import type { RunRecord } from './run-record.ts';
import type { Metric } from './stage-api.ts';
import type { Workspace } from './workspace.ts';

/** Packages whose versions can change what stages make. */
const DECIDING_PACKAGES = ['@huggingface/jinja', '@huggingface/tokenizers', 'onnxruntime-node', 'sharp'] as const;

export interface LockedStage {
  /** What decided the result. */
  readonly fields: FingerprintFields;
  readonly fingerprint: string;
  /** Digest by output. */
  readonly outputs: Readonly<Record<string, string>>;
  readonly metrics: Readonly<Record<string, Metric>>;
}

export interface RunLock {
  readonly version: 1;
  readonly pipeline: string;
  /** The pipeline file, relative to the lock's folder, with `/`. */
  readonly file: string;
  /** The arguments that matter, for `fr1 repro`. */
  readonly command: LockedCommand;
  readonly packages: Readonly<Record<string, string>>;
  /** Not compared: results should not depend on these. */
  readonly made: { readonly run: string; readonly fr1: string; readonly node: string; readonly system: string };
  readonly seed: number;
  /** In execution order. */
  readonly stages: Readonly<Record<string, LockedStage>>;
  /** Stages whose condition was false. */
  readonly skipped: readonly string[];
}

export interface LockedCommand {
  readonly set: readonly string[];
  readonly only?: readonly string[];
  readonly from?: readonly string[];
  readonly until?: readonly string[];
  readonly device: string;
  readonly threads: number;
}

/** One entry that differs; `path` begins with `packages`, `seed` or `stages`. */
export type LockChange = FieldChange;

export function decidingPackages(): Record<string, string> {
  return Object.fromEntries(DECIDING_PACKAGES.map((name) => [name, packageVersion(name)]));
}

/** The lock of a run that is done, or that went as far as it went. */
export async function lockOfRun(
  record: RunRecord,
  workspace: Workspace,
  command: LockedCommand,
): Promise<Omit<RunLock, 'file'>> {
  const stages: Record<string, LockedStage> = {};
  for (const { name, fingerprint, outputs, metrics } of record.stages) {
    const entry = fingerprint === undefined ? undefined : await workspace.readCache(fingerprint);
    if (!entry || Object.keys(outputs).length === 0) continue;
    const digests = Object.fromEntries(Object.entries(outputs).map(([output, { digest }]) => [output, digest]));
    stages[name] = { fields: entry.fields, fingerprint: entry.fingerprint, outputs: digests, metrics };
  }
  const { fr1, node, system } = record.environment;
  return {
    version: 1,
    pipeline: record.pipeline,
    command,
    packages: decidingPackages(),
    made: { run: record.id, fr1: String(fr1), node: String(node), system: String(system) },
    seed: record.seed,
    stages,
    skipped: record.stages.filter(({ status }) => status === 'skipped').map(({ name }) => name),
  };
}

/**
 * What differs between the lock and a run that has not begun, as far as that can be known: everything but the digests of
 * what stages will make, for which the lock's stand in. In the order packages, seed, stages.
 */
export async function planChanges(
  lock: RunLock,
  plan: Plan,
  workspace: Workspace,
  numerics: Numerics,
): Promise<readonly LockChange[]> {
  const changes = generalChanges(lock, plan.pipeline.seed);
  const planned = new Map(plan.order.map((stage) => [stage.name, stage]));
  for (const stage of plan.order) {
    const locked = lock.stages[stage.name];
    const path = `stages.${stage.name}`;
    if (!locked) {
      if (!lock.skipped.includes(stage.name)) changes.push({ path, before: undefined, after: stage.definition.kind });
      continue;
    }
    const { fields } = fingerprintStage(stage, await expectedInputs(stage, lock, workspace), numerics);
    changes.push(...stageChanges(stage.name, locked.fields, fields));
  }
  for (const [name, { fields }] of Object.entries(lock.stages)) {
    if (!planned.has(name)) changes.push({ path: `stages.${name}`, before: fields.kind, after: undefined });
  }
  return changes;
}

/** What differs between two runs: what they resolved to, then what they made. */
export function lockChanges(before: RunLock, after: RunLock): readonly LockChange[] {
  const changes = generalChanges(before, after.seed, after.packages);
  const made: LockChange[] = [];
  const names = [...Object.keys(after.stages), ...Object.keys(before.stages).filter((name) => !after.stages[name])];
  for (const name of names) {
    const [a, b] = [before.stages[name], after.stages[name]];
    if (!a || !b) {
      changes.push({ path: `stages.${name}`, before: a?.fields.kind, after: b?.fields.kind });
      continue;
    }
    changes.push(...stageChanges(name, a.fields, b.fields));
    for (const output of union(a.outputs, b.outputs)) {
      const path = `stages.${name}.outputs.${output}`;
      if (a.outputs[output] !== b.outputs[output]) {
        made.push({ path, before: a.outputs[output], after: b.outputs[output] });
      }
    }
    for (const metric of union(a.metrics, b.metrics)) {
      const path = `stages.${name}.metrics.${metric}`;
      if (!isDeepStrictEqual(a.metrics[metric], b.metrics[metric])) {
        made.push({ path, before: a.metrics[metric], after: b.metrics[metric] });
      }
    }
  }
  return [...changes, ...made];
}

/**
 * The check of one stage at the moment when its inputs are known.
 *
 * @throws LOCK_DIFFERS with the first field that differs
 */
export function requireLocked(lock: RunLock, stage: string, fingerprint: Fingerprint): void {
  const locked = lock.stages[stage];
  if (!locked || locked.fingerprint === fingerprint.digest) return;
  const [first] = stageChanges(stage, locked.fields, fingerprint.fields);
  throw lockDiffers(first ?? { path: `stages.${stage}`, before: locked.fingerprint, after: fingerprint.digest }, 1);
}

export function lockDiffers(first: LockChange, count: number): Fr1Error {
  const more = count > 1 ? `; ${count - 1} more differ` : '';
  return new Fr1Error('LOCK_DIFFERS', `this run is not the locked one: ${changeText(first)}${more}`, {
    hint: 'undo the change, or run without --locked and write a new lock with --lock',
  });
}

/** `stages.sft.options.steps: 40 -> 60`. */
export function changeText({ path, before, after }: LockChange): string {
  return `${path}: ${valueText(before)} -> ${valueText(after)}`;
}

/** @throws LOCK_INVALID */
export function parseLock(text: string, path: string): RunLock {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Fr1Error('LOCK_INVALID', `${path} is not JSON`, {
      cause,
      hint: 'restore it, or write a new one with --lock',
    });
  }
  if (!isLock(value)) {
    throw new Fr1Error('LOCK_INVALID', `${path} is no lock of version 1`, { hint: 'write a new one with --lock' });
  }
  return value;
}

function isLock(value: unknown): value is RunLock {
  if (typeof value !== 'object' || value === null || !('version' in value)) return false;
  return value.version === 1 && 'stages' in value && 'command' in value && 'file' in value;
}

function generalChanges(lock: RunLock, seed: number, packages: RunLock['packages'] = decidingPackages()): LockChange[] {
  const changes: LockChange[] = [];
  for (const name of union(lock.packages, packages)) {
    const [before, after] = [lock.packages[name], packages[name]];
    if (before !== after) changes.push({ path: `packages.${name}`, before, after });
  }
  if (lock.seed !== seed) changes.push({ path: 'seed', before: lock.seed, after: seed });
  return changes;
}

function stageChanges(name: string, before: FingerprintFields, after: FingerprintFields): LockChange[] {
  return explainRerun(before, after).map((change) => ({ ...change, path: `stages.${name}.${change.path}` }));
}

/** Digests of local inputs as they are, and of stages' outputs as the lock has them. */
async function expectedInputs(
  stage: PlannedStage,
  lock: RunLock,
  workspace: Workspace,
): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const { pointer, source } of stage.inputs) {
    digests[pointer] =
      source.kind === 'local-input'
        ? await workspace.digestLocalInput(source.path, { remember: false })
        : (lock.stages[source.stage]?.outputs[source.output] ?? `output ${source.output} of ${source.stage}`);
  }
  return digests;
}

function union(a: object, b: object): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])];
}

function valueText(value: unknown): string {
  if (value === undefined) return 'absent';
  if (typeof value === 'string') return /^sha256:[0-9a-f]{64}$/.test(value) ? value.slice(0, 19) : value;
  if (typeof value === 'object' && value !== null && 'value' in value) return String(value.value);
  return JSON.stringify(value);
}
