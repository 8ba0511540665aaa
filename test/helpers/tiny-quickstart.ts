/**
 * pipelines/quickstart.yaml at a size that trains and evaluates in seconds: few classes and images, few updates, and a
 * rate that still makes the model answer well enough for reinforcement to have something to compare.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { RunRecord, StageRecord } from '../../src/run/run-record.ts';
import { type CliProcess, type StartOptions, startCli } from './cli.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const BASE_MODEL = join(ROOT, 'models', 'fr1-tiny');

const SIZE = [
  'stages.birds.with.seenClasses=4',
  'stages.birds.with.unseenClasses=4',
  'stages.birds.with.rlShots=4',
  'stages.birds.with.testImages=8',
  'stages.sft.with.steps=20',
  'stages.sft.with.batchSize=8',
  'stages.sft.with.microBatchSize=8',
  'stages.sft.with.learningRate=1e-3',
  'stages.sft.with.saveEvery=4',
  'stages.tapo.with.steps=3',
  'stages.tapo.with.groupsPerStep=4',
  'stages.tapo.with.rollouts=2',
  'stages.tapo.with.maxDraws=2',
  'stages.tapo.with.saveEvery=1',
];

/** Starts `fr1 run` in a workspace; later changes win over earlier ones and over the size. */
export function startQuickstart(
  workspace: string,
  changes: readonly string[] = [],
  flags: readonly string[] = [],
  options: StartOptions = {},
): CliProcess {
  const sets = [...SIZE, ...changes].flatMap((change) => ['--set', change]);
  const argv = ['run', join(ROOT, 'pipelines', 'quickstart.yaml'), '--workspace', workspace, ...sets, ...flags];
  return startCli(ROOT, argv, { timeoutMs: 240_000, ...options });
}

export interface FinishedRun {
  readonly stdout: string;
  readonly stderr: string;
  readonly record: RunRecord;
  stage(name: string): StageRecord;
  digest(stage: string, output?: string): string;
}

/** Waits for the end of a run that must succeed. */
export async function finished(workspace: string, child: CliProcess): Promise<FinishedRun> {
  const { exitCode, stdout, stderr } = await child;
  if (exitCode !== 0) throw new Error(`fr1 run ended with ${exitCode}:\n${String(stdout)}\n${String(stderr)}`);
  const record = await lastRun(workspace);
  const stage = (name: string) => {
    const found = record.stages.find((each) => each.name === name);
    if (!found) throw new Error(`the run has no stage ${name}`);
    return found;
  };
  return {
    stdout: String(stdout),
    stderr: String(stderr),
    record,
    stage,
    digest(name, output = 'model') {
      const digest = stage(name).outputs[output]?.digest;
      if (!digest) throw new Error(`stage ${name} has no output ${output}`);
      return digest;
    },
  };
}

export async function runQuickstart(
  workspace: string,
  changes: readonly string[] = [],
  flags: readonly string[] = [],
): Promise<FinishedRun> {
  return finished(workspace, startQuickstart(workspace, changes, flags));
}

/** What `fr1 show last --json` prints. */
export async function lastRun(workspace: string): Promise<RunRecord> {
  const { stdout } = await startCli(ROOT, ['show', 'last', '--json', '--workspace', workspace]);
  return JSON.parse(String(stdout)) as RunRecord;
}

/** Resolves when an unfinished stage has saved its training state for the first time. */
export async function stateSaved(workspace: string, child: CliProcess): Promise<void> {
  let hasEnded = false;
  child.once('exit', () => {
    hasEnded = true;
  });
  while (!(await unfinishedFiles(workspace)).some((name) => name.endsWith('train-state.safetensors'))) {
    if (hasEnded) throw new Error(`the run ended before a state was saved:\n${String((await child).stdout)}`);
    await sleep(5);
  }
}

async function unfinishedFiles(workspace: string): Promise<string[]> {
  try {
    return await readdir(join(workspace, 'work'), { recursive: true });
  } catch (error) {
    // A folder that is made or removed while it is listed.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}
