/**
 * `fr1 repro`: runs again what a lock or an earlier run names, in a workspace of its own, and compares what comes out.
 * The lock gives the arguments that matter: changes by --set, selection, kind of device, threads.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { findRun } from '../run/recorder.ts';
import { changeText, type LockChange, lockChanges, type RunLock } from '../run/run-lock.ts';
import type { Metric } from '../run/stage-api.ts';
import { Workspace } from '../run/workspace.ts';
import { countOf, metricText } from '../ui/words.ts';
import { type CliIo, shortPath, writeLines } from './io.ts';
import type { ReproFlags } from './main.ts';
import { existingWorkspace } from './open-workspace.ts';
import { runCommand } from './run-command.ts';
import { lockOfRunPath, readLock } from './run-locks.ts';

/** Differences that are printed; of more, only the count is told. */
const SHOWN = 20;

/**
 * @throws LOCK_DIFFERS before anything runs, when the pipeline, its inputs or the packages are not those of the lock
 * @throws REPRODUCTION_DIFFERS after the report, when digests or metrics differ
 */
export async function reproCommand(what: string, flags: ReproFlags, io: CliIo): Promise<number> {
  const path = await lockPath(what, flags, io);
  const lock = await readLock(path);
  const workspace =
    flags.into === undefined ? await mkdtemp(join(tmpdir(), 'fr1-repro-')) : resolve(io.cwd, flags.into);
  const isTemporary = flags.into === undefined;
  const file = shortPath(io)(resolve(dirname(path), lock.file));
  const { command } = lock;
  let isKept = true;
  try {
    const code = await runCommand(
      file,
      {
        ...command,
        jobs: flags.jobs,
        workspace,
        json: flags.json ?? false,
        lockedTo: lock,
      },
      io,
    );
    if (code !== 0) return code;
    const run = await findRun(new Workspace(workspace), 'last');
    const again = await readLock(lockOfRunPath(new Workspace(workspace), run.id));
    const found = lockChanges(lock, again);
    const counted = flags.metricsOnly ? found.filter((change) => isOutside(change)) : found;
    isKept = counted.length > 0;
    report(lock, found, counted, flags, io);
    if (isTemporary && flags.json !== true) {
      writeLines(io.stdout, ['the workspace of the repetition is removed; --into DIR keeps it']);
    }
    return 0;
  } finally {
    if (isTemporary && !isKept) await rm(workspace, { recursive: true, force: true, maxRetries: 3 });
    else if (isTemporary && existsSync(join(workspace, 'runs'))) {
      writeLines(io.stderr, [`what was made is kept in ${workspace}`]);
    } else if (isTemporary) await rm(workspace, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** A file, or the id of a run in the workspace. */
async function lockPath(what: string, flags: ReproFlags, io: CliIo): Promise<string> {
  const file = resolve(io.cwd, what);
  if (existsSync(file)) return file;
  if (what.includes('/') || what.endsWith('.lock')) {
    throw new Fr1Error('LOCK_MISSING', `there is no lock at ${what}`, {
      hint: 'fr1 run FILE --lock writes one when the run is done',
    });
  }
  const workspace = existingWorkspace(flags.workspace, io);
  const run = await findRun(workspace, what);
  if (run.status !== 'done') {
    throw new Fr1Error(
      'LOCK_MISSING',
      `run ${run.id} is not done (${run.status}), so there is nothing to compare with`,
      {
        hint: 'name a run that is done; fr1 show lists what became of one',
      },
    );
  }
  return lockOfRunPath(workspace, run.id);
}

function report(
  lock: RunLock,
  found: readonly LockChange[],
  counted: readonly LockChange[],
  flags: ReproFlags,
  io: CliIo,
): void {
  const stages = Object.values(lock.stages);
  const outputs = stages.reduce((sum, stage) => sum + Object.keys(stage.outputs).length, 0);
  const metrics = stages.reduce((sum, stage) => sum + Object.keys(stage.metrics).length, 0);
  const lines = found.slice(0, SHOWN).map((change) => `differs: ${describe(change)}`);
  if (found.length > SHOWN) lines.push(`and ${found.length - SHOWN} more`);
  if (counted.length === 0) {
    const same = found.length === 0 ? 'all the same' : 'every metric inside its interval';
    lines.push(
      `reproduced run ${lock.made.run}: ${countOf(outputs, 'artifact')} and ${countOf(metrics, 'metric')}, ${same}`,
    );
  }
  if (!flags.json) writeLines(io.stdout, lines);
  if (counted.length === 0) return;
  throw new Fr1Error('REPRODUCTION_DIFFERS', `run ${lock.made.run} was not reproduced: ${changeText(counted[0]!)}`, {
    hint: flags.metricsOnly
      ? 'everything that it resolved to is the same, so the difference comes from the machine or from chance'
      : 'on another machine only metrics can be expected to agree: --metrics-only compares these with their intervals',
  });
}

function describe(change: LockChange): string {
  const { path, before, after } = change;
  if (!isMetric(before) || !isMetric(after)) return changeText(change);
  const place = isOutside(change) ? 'outside' : 'inside';
  const interval = before.low === undefined ? '' : `, ${place} the interval`;
  return `${path}: expected ${metricText(before)}, got ${metricText(after)}${interval}`;
}

/** Whether a difference is one of a metric that has left its 95 % interval; one without an interval must not change. */
function isOutside({ before, after, path }: LockChange): boolean {
  if (!/^stages\..*\.metrics\.[^.]+$/.test(path)) return false;
  if (!isMetric(before) || !isMetric(after)) return true;
  const { low = before.value, high = before.value } = before;
  return after.value < low || after.value > high;
}

function isMetric(value: unknown): value is Metric {
  return typeof value === 'object' && value !== null && 'value' in value;
}
