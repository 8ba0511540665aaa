/**
 * `node supervise.js PROGRAM ARGUMENT...` runs a program as the leader of a process group and ends with its exit code.
 * When its standard input closes (fr1 stops the stage, or is gone, however it ended) it ends the whole group: SIGTERM
 * first, SIGKILL after a while. So no command outlives the fr1 that started it.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

const GRACE_MS = 4_000;
const [program, ...args] = process.argv.slice(2);
const isWindows = process.platform === 'win32';
let isStopping = false;

// The group is told by its leader, which must survive that.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, stop);

const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] });
child.on('error', (error) => {
  process.stderr.write(
    `cannot start ${program}: ${error.code === 'ENOENT' ? 'there is no such program' : error.message}\n`,
  );
  process.exit(127);
});
child.on('exit', (code, signal) => {
  // What the program left running in the background goes with it.
  signalGroup('SIGTERM');
  process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0);
  process.stdin.destroy();
});
process.stdin.on('close', stop).on('error', stop).resume();

function stop() {
  if (isStopping || child.exitCode !== null || child.signalCode !== null) return;
  isStopping = true;
  signalGroup('SIGTERM');
  setTimeout(() => signalGroup('SIGKILL'), GRACE_MS).unref();
}

function signalGroup(signal) {
  try {
    if (isWindows) spawn('taskkill', ['/pid', String(child.pid), '/T', '/F'], { stdio: 'ignore' });
    else process.kill(-process.pid, signal);
  } catch {
    // Nobody is left.
  }
}
