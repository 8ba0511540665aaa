/** What a command sees of the process: streams, environment, working directory and interrupts. Tests pass their own. */
import { relative, sep } from 'node:path';

export interface CliIo {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Calls back at each Ctrl-C or termination request, until the returned function is called. */
  onInterrupt(listener: () => void): () => void;
  /** Ends the process without waiting for anything. */
  exitNow(code: number): void;
}

export function writeLines(stream: NodeJS.WritableStream, lines: readonly string[]): void {
  if (lines.length > 0) stream.write(`${lines.join('\n')}\n`);
}

export function isTerminal(stream: NodeJS.WritableStream): stream is NodeJS.WriteStream {
  return 'isTTY' in stream && stream.isTTY === true;
}

/** Whether errors may be coloured: on a terminal, unless NO_COLOR says otherwise. */
export function wantsColour(io: CliIo): boolean {
  return isTerminal(io.stderr) && !io.env['NO_COLOR'] && io.env['TERM'] !== 'dumb';
}

/** A path relative to the working directory where that is shorter. */
export function shortPath(io: CliIo): (path: string) => string {
  return (path) => {
    const short = relative(io.cwd, path);
    return short !== '' && !short.startsWith(`..${sep}..`) && short.length < path.length ? short : path;
  };
}
