/** What the system says about processes. Not for Windows. */
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';

/** Processes that descend from one, as the system lists them. */
export async function descendantsOf(pid: number): Promise<number[]> {
  const { stdout } = await execa('ps', ['-A', '-o', 'pid=,ppid=']);
  const pairs = stdout.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  const found: number[] = [];
  for (let parents = [pid]; parents.length > 0; ) {
    parents = pairs.filter(([, parent]) => parents.includes(parent!)).map(([child]) => child!);
    found.push(...parents);
  }
  return found;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Those of the processes that are still there after a while in which they may end. */
export async function survivors(pids: readonly number[], graceMs = 2_000): Promise<number[]> {
  const until = performance.now() + graceMs;
  let alive = pids.filter(isAlive);
  while (alive.length > 0 && performance.now() < until) {
    await sleep(20);
    alive = alive.filter(isAlive);
  }
  return alive;
}

/** Command lines of processes that hold the text. */
export async function commandsWith(text: string): Promise<string[]> {
  const { stdout } = await execa('ps', ['-A', '-o', 'args=']);
  return stdout.split('\n').filter((line) => line.includes(text));
}
