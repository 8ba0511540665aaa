/** Runs the fuzzing child and watches it: a mutation that hangs is named, and the child is ended. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';

const CHILD = fileURLToPath(new URL('./fuzz-child.mjs', import.meta.url));

export interface FuzzFigures {
  readonly done: number;
  /** How often each exit code was given. */
  readonly codes: Readonly<Record<string, number>>;
  /** How often each error was told. */
  readonly reports: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  readonly rssMiB: number;
}

/** @throws Error with the mutation's text when an answer is wrong or takes longer than `hangMs` */
export async function fuzz(first: number, count: number, hangMs: number): Promise<FuzzFigures> {
  const child = execa(process.execPath, [CHILD, String(first), String(count)], { reject: false, buffer: false });
  let last = 'none';
  let figures: FuzzFigures | undefined;
  let problem: string | undefined;
  const watch = () =>
    setTimeout(() => {
      problem = `mutation ${last} takes longer than ${hangMs} ms`;
      child.kill('SIGKILL');
    }, hangMs);
  let timer = watch();
  for await (const line of createInterface({ input: child.stdout })) {
    clearTimeout(timer);
    timer = watch();
    if (line.startsWith('{"seed"')) last = line;
    else if (line.startsWith('{"done"')) figures = JSON.parse(line) as FuzzFigures;
    else problem = line;
  }
  clearTimeout(timer);
  await child;
  if (problem !== undefined || figures === undefined) throw new Error(problem ?? `the child ended after ${last}`);
  return figures;
}
