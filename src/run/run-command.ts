/**
 * Runs an external command for a stage: arguments as they are, output line by line, and nothing left behind. The command
 * runs under bin/supervise.js in a process group of its own, which ends with it, with the abort, or with fr1.
 */
import { execa } from 'execa';
import { packagePath } from './package-files.ts';

export interface CommandRequest {
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  /** Absolute. */
  readonly cwd: string;
  /** Added to the environment of this process. */
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  readonly onStdout: (line: string) => void;
  readonly onStderr: (line: string) => void;
}

/**
 * Resolves with the exit code, 127 when the program cannot be started, 128 + n after signal n. Rejects with the signal's
 * reason once an aborted command has come to its end.
 */
export async function runCommand(request: CommandRequest): Promise<number> {
  const { command, cwd, env, signal, onStdout, onStderr } = request;
  signal.throwIfAborted();
  const child = execa(process.execPath, [packagePath('bin/supervise.js'), ...command], {
    cwd,
    env: { ...env },
    stdin: 'pipe',
    // The leader of a new group, so that the group is all that the command starts.
    detached: process.platform !== 'win32',
    reject: false,
    buffer: false,
  });
  const stop = () => child.stdin.end();
  // A command that ends by itself takes the pipe with it.
  child.stdin.on('error', () => undefined);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const [result] = await Promise.all([
      child,
      forEachLine(child.iterable({ from: 'stdout' }), onStdout),
      forEachLine(child.iterable({ from: 'stderr' }), onStderr),
    ]);
    signal.throwIfAborted();
    if (result.exitCode === undefined && result.signal === undefined) throw result;
    return result.exitCode ?? 128;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

async function forEachLine(lines: AsyncIterable<unknown>, use: (line: string) => void): Promise<void> {
  for await (const line of lines) use(String(line));
}
