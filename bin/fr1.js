#!/usr/bin/env node
import { existsSync } from 'node:fs';

// A reader that goes away (`fr1 run ... | head`) ends its listening, not the run.
process.stdout.on('error', (error) => {
  if (error.code !== 'EPIPE') throw error;
});

const main = new URL('../dist/src/cli/main.js', import.meta.url);
if (existsSync(main)) {
  const { runCli } = await import(main.href);
  const code = await runCli(process.argv.slice(2), {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    onInterrupt(listener) {
      const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
      for (const signal of signals) process.on(signal, listener);
      return () => {
        for (const signal of signals) process.off(signal, listener);
      };
    },
    exitNow: (code) => process.exit(code),
  });
  // What is still running after the last word (a session that ignored the abort) must not keep the process.
  const flushed = (stream) => new Promise((resolve) => stream.write('', resolve));
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  process.exit(code);
} else {
  process.stderr.write('fr1 is not built yet\n  hint: run `npm run build` first (`npm ci` does it too)\n');
  process.exitCode = 2;
}
