/** Two ways to the CLI: as a function of arguments and streams, and as the process that a user starts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { execa, type Options, type ResultPromise } from 'execa';
import { afterAll } from 'vitest';
import type { CliIo } from '../../src/cli/io.ts';
import { runCli } from '../../src/cli/main.ts';

const EXTRA_STAGES = fileURLToPath(new URL('./fake-stages.js', import.meta.url));
const BIN = fileURLToPath(new URL('../../bin/fr1.js', import.meta.url));

/** The runs of one test process share a ledger of devices, and not that of the machine, where other runs may be going. */
export const LEASE_DIRECTORY = mkdtempSync(join(tmpdir(), 'fr1-test-leases-'));
afterAll(() => rmSync(LEASE_DIRECTORY, { recursive: true, force: true }));

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Calls the command in this process, with the fake stages beside the built-in ones. */
export async function callCli(
  cwd: string,
  argv: readonly string[],
  overrides: Partial<CliIo> = {},
): Promise<CliResult> {
  const [stdout, stderr] = [collect(), collect()];
  const exitCode = await runCli(argv, {
    stdout: stdout.stream,
    stderr: stderr.stream,
    env: { FR1_EXTRA_STAGES: EXTRA_STAGES, FR1_LEASE_DIR: LEASE_DIRECTORY },
    cwd,
    onInterrupt: () => () => undefined,
    exitNow: (code) => {
      throw new Error(`exitNow(${code})`);
    },
    ...overrides,
  });
  return { exitCode, stdout: stdout.text(), stderr: stderr.text() };
}

type CliOptions = Options & { encoding: 'utf8'; reject: false };

export interface StartOptions {
  /** A process that hangs fails its test instead of outliving it. @default 60000 */
  readonly timeoutMs?: number;
  /** `FR1_DEBUG`. @default none */
  readonly debugLevel?: number;
  /** Further variables. @default none */
  readonly env?: Readonly<Record<string, string>>;
}

/** A CLI that has been started. */
export type CliProcess = ResultPromise<CliOptions>;

/** Starts the built CLI (`npm run build` comes before) as a process of its own. */
export function startCli(
  cwd: string,
  argv: readonly string[],
  { timeoutMs = 60_000, debugLevel, env }: StartOptions = {},
): CliProcess {
  return execa(process.execPath, [BIN, ...argv], {
    cwd,
    reject: false,
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    env: {
      FR1_EXTRA_STAGES: EXTRA_STAGES,
      FR1_LEASE_DIR: LEASE_DIRECTORY,
      FR1_DEBUG: debugLevel === undefined ? '' : String(debugLevel),
      ...env,
    },
  });
}

/** Resolves when the process has printed the text on its standard output; rejects when it ends without. */
export function printed(child: CliProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = '';
    const onData = (chunk: Buffer | string) => {
      seen += String(chunk);
      if (!seen.includes(text)) return;
      child.stdout?.off('data', onData);
      resolve();
    };
    child.stdout?.on('data', onData);
    child.once('exit', () => reject(new Error(`the process ended without printing "${text}":\n${seen}`)));
  });
}

function collect() {
  const stream = new PassThrough();
  const chunks: string[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  return { stream, text: () => chunks.join('') };
}
