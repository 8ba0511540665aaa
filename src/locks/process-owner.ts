/** Who a process is, so that another one can tell later whether it still lives. */
import { readFile } from 'node:fs/promises';
import { errorCodeOf } from '../artifacts/durable-fs.ts';

export interface ProcessOwner {
  readonly pid: number;
  /** Start of the process in clock ticks since boot, where the system tells it: a pid may come to a later process. */
  readonly processStart?: string | undefined;
}

export async function thisProcess(): Promise<ProcessOwner> {
  return { pid: process.pid, processStart: (await processTraits(process.pid))?.start };
}

/** Whether that very process is there and computes. It must be one of this machine. */
export async function isOwnerAlive({ pid, processStart }: ProcessOwner): Promise<boolean> {
  if (!exists(pid)) return false;
  const traits = await processTraits(pid);
  if (traits === undefined) return true;
  return (processStart === undefined || traits.start === processStart) && !traits.hasEnded;
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCodeOf(error) === 'EPERM';
  }
}

interface ProcessTraits {
  /** Clock ticks since boot. */
  readonly start: string | undefined;
  /** It computes no more; its parent has not asked for its exit code, or never will (a container without an init). */
  readonly hasEnded: boolean;
}

/** Fields 3, 20 and 22 of /proc/<pid>/stat; undefined where there is no /proc or no such process. */
async function processTraits(pid: number): Promise<ProcessTraits | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  // The command name in parentheses may hold spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, threads] = [fields[0], Number(fields[17])];
  return { start: fields[19], hasEnded: (state === 'Z' || state === 'X') && threads <= 1 };
}
