/** `fr1 run`: load, plan, lock the workspace, execute, show. Owns interrupts and exit codes; the executor does the work. */
import { existsSync } from 'node:fs';
import { arch, platform } from 'node:os';
import { join, resolve } from 'node:path';
import { Secrets } from '../config/secrets.ts';
import { debugLevel } from '../errors/format.ts';
import { explainDiskError } from '../run/disk-error.ts';
import { RunEventHub } from '../run/events.ts';
import { executePlan } from '../run/executor.ts';
import { markCutOffRuns, nextRunId, RunRecorder } from '../run/recorder.ts';
import {
  changeText,
  type LockedCommand,
  lockChanges,
  lockDiffers,
  lockOfRun,
  planChanges,
  type RunLock,
  requireLocked,
} from '../run/run-lock.ts';
import { liveRenderer } from '../ui/live.ts';
import { plainRenderer } from '../ui/plain.ts';
import { closingLines, failureLines, tablesOf } from '../ui/summary.ts';
import { TensorBoardWriter } from '../ui/tensorboard.ts';
import { reportRunToGithub } from './github-report.ts';
import { type CliIo, isTerminal, shortPath, wantsColour, writeLines } from './io.ts';
import { lazyPool } from './lazy-pool.ts';
import { LoopWatch } from './loop-watch.ts';
import { fr1Version, type RunFlags } from './main.ts';
import type { PreparedPlan } from './prepare-plan.ts';
import { preparePlan } from './prepare-plan.ts';
import { lockBeside, lockOfRunPath, readLock, readLockIfPresent, writeLock } from './run-locks.ts';
import { defaultWorkspaces } from './show-command.ts';

/** The flags of `fr1 run`, and for `fr1 repro` the lock that the run must follow. */
export interface RunOptions extends RunFlags {
  readonly lockedTo?: RunLock;
  readonly from?: readonly string[];
  readonly until?: readonly string[];
}

export async function runCommand(file: string, flags: RunOptions, io: CliIo): Promise<number> {
  if (flags.dryRun) {
    const { planCommand } = await import('./plan-command.ts');
    return planCommand(file, flags, io);
  }
  const interrupt = new AbortController();
  const ignoreInterrupts = io.onInterrupt(() => {
    if (interrupt.signal.aborted) io.exitNow(130);
    interrupt.abort(new DOMException('the run was interrupted', 'AbortError'));
  });
  try {
    const prepared = await preparePlan(file, flags, io);
    const locked = await lockToFollow(file, prepared, flags, io);
    try {
      await using lock = await prepared.workspace.open();
      await markCutOffRuns(prepared.workspace);
      return await execute(prepared, { file, flags, locked }, io, interrupt.signal, lock.recoveredFrom);
    } catch (error) {
      throw explainDiskError(error, prepared.workspace.directory);
    }
  } finally {
    ignoreInterrupts();
  }
}

/**
 * The lock that the run must follow, if any.
 *
 * @throws LOCK_DIFFERS when the plan shows already that it is another run
 */
async function lockToFollow(
  file: string,
  { plan, workspace, numerics }: PreparedPlan,
  flags: RunOptions,
  io: CliIo,
): Promise<RunLock | undefined> {
  if (!flags.locked && !flags.lockedTo) return undefined;
  const lock = flags.lockedTo ?? (await readLock(lockBeside(resolve(io.cwd, file))));
  const changes = await planChanges(lock, plan, workspace, numerics);
  if (changes[0]) throw lockDiffers(changes[0], changes.length);
  return lock;
}

interface Request {
  readonly file: string;
  readonly flags: RunOptions;
  readonly locked: RunLock | undefined;
}

async function execute(
  { plan, workspace, numerics, devices }: PreparedPlan,
  { file, flags, locked }: Request,
  io: CliIo,
  signal: AbortSignal,
  recoveredFrom: number | undefined,
): Promise<number> {
  const runId = await nextRunId(workspace);
  const secrets = Secrets.read(plan.pipeline.env, io.env);
  const events = new RunEventHub((event) => secrets.mask(event));
  const view = openView(flags, io);
  events.subscribe(view.onEvent);
  const loopWatch = debugLevel(io.env) >= 2 ? new LoopWatch() : undefined;
  if (loopWatch) events.subscribe((event) => loopWatch.onEvent(event));
  const recorder = await RunRecorder.start(workspace, runId, events, {
    fr1: fr1Version(),
    node: process.versions.node,
    system: `${platform()}-${arch()}`,
    onnxruntime: numerics.onnxruntime,
    threads: numerics.threads,
    numerics: numerics.fr1,
  });

  const pool = lazyPool({
    devices,
    threads: numerics.threads,
    pipeline: plan.pipeline.name,
    leaseDirectory: io.env['FR1_LEASE_DIR'],
    warn: (message) => events.emit({ type: 'run-warn', message }),
    onWait: (stage, { pid, holder, device = null, since }) =>
      events.emit({ type: 'device-busy', stage, pid, holder, device, since }),
  });
  const curves = new TensorBoardWriter(join(workspace.directory, 'runs', runId, 'tensorboard'));
  events.subscribe((event) => curves.onEvent(event));
  const outcome = await executePlan({
    plan,
    workspace,
    events,
    runId,
    numerics,
    device: flags.device,
    jobs: flags.jobs,
    secrets,
    keepGoing: flags.keepGoing ?? false,
    ...(locked && { onFingerprint: (stage, fingerprint) => requireLocked(locked, stage, fingerprint) }),
    signal,
    recordPath: recorder.recordPath,
    lease: (request) => pool.lease(request),
  });
  await view.close();
  if (loopWatch) writeLines(io.stderr, loopWatch.lines());
  curves.close();
  const record = await recorder.close();
  // After an interrupt a session may still be computing; the end of the process frees it sooner.
  if (outcome.status !== 'interrupted') await pool.close();

  const pipelineFile = resolve(io.cwd, file);
  const made = record && (await lockOfRun(record, workspace, commandOf(flags, numerics.threads)));
  let failure = recorder.failure;
  if (made) {
    // A full disk must not keep the results from being told.
    await writeLock(lockOfRunPath(workspace, runId), made, pipelineFile).catch((error: unknown) => {
      failure ??= error;
    });
    if (flags.lock && outcome.status === 'done') await writeLock(lockBeside(pipelineFile), made, pipelineFile);
  }

  const drift = made && outcome.status === 'failed' ? await driftLines(made, pipelineFile, io) : [];
  if (record) reportRunToGithub(record, drift, io);
  if (record && !flags.json) {
    const options = {
      colour: wantsColour(io),
      showPath: shortPath(io),
      showCommand: (id: string) => showCommandFor(id, workspace.directory, io),
      wasForced: flags.force !== undefined,
    };
    if (recoveredFrom !== undefined) {
      writeLines(io.stderr, [`note: an earlier run (process ${recoveredFrom}) was cut off; its lock was taken over`]);
    }
    writeLines(io.stdout, tablesOf(record));
    writeLines(io.stderr, failureLines(record, options));
    writeLines(io.stderr, drift);
    writeLines(io.stdout, closingLines(record, options));
    if (flags.lock && outcome.status === 'done') {
      writeLines(io.stdout, [`lock: ${options.showPath(lockBeside(pipelineFile))}`]);
    }
  }
  if (failure !== undefined && outcome.faultCode === 0) throw failure;
  return outcome.status === 'interrupted' ? 130 : outcome.faultCode;
}

function commandOf(flags: RunOptions, threads: number): LockedCommand {
  const { set, only, from, until, device } = flags;
  return { set, ...(only && { only }), ...(from && { from }), ...(until && { until }), device, threads };
}

/** Of a failed run: what it resolved to that the lock beside the pipeline file does not say. */
async function driftLines(made: Omit<RunLock, 'file'>, pipelineFile: string, io: CliIo): Promise<string[]> {
  const path = lockBeside(pipelineFile);
  const lock = await readLockIfPresent(path);
  // Stages after the failure are in no lock of this run, which is no drift.
  const changes = lock === undefined ? [] : lockChanges(lock, { ...made, file: lock.file });
  const [first] = changes.filter(({ path: entry, after }) => after !== undefined || !/^stages\.[^.]+$/.test(entry));
  if (!first) return [];
  return [`first difference to ${shortPath(io)(path)} (run ${lock!.made.run}):`, `  ${changeText(first)}`, ''];
}

function showCommandFor(id: string, workspace: string, io: CliIo): string {
  const isDefault = defaultWorkspaces(io).find((path) => existsSync(path)) === workspace;
  return isDefault ? `fr1 show ${id}` : `fr1 show ${id} --workspace ${shortPath(io)(workspace)}`;
}

interface View {
  readonly onEvent: Parameters<RunEventHub['subscribe']>[0];
  close(): Promise<void>;
}

function openView(flags: RunFlags, io: CliIo): View {
  const close = async () => undefined;
  if (flags.json) return { onEvent: (event) => io.stdout.write(`${JSON.stringify(event)}\n`), close };
  const isDumb = io.env['TERM'] === 'dumb' || Boolean(io.env['CI']);
  // A terminal that does not know its width (0 columns) cannot be redrawn.
  if (isTerminal(io.stdout) && io.stdout.columns > 0 && isTerminal(io.stderr) && !isDumb)
    return liveRenderer(io.stdout, io.stderr);
  return { onEvent: plainRenderer((line) => writeLines(io.stdout, [line])), close };
}
