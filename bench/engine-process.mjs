/** A process that answers one JSON line per JSON line. */
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const fileBeside = (name) => fileURLToPath(new URL(name, import.meta.url));

export class EngineProcess {
  #process;
  #answers;
  #complaints = '';

  constructor(command, args) {
    this.#process = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, PYTHONWARNINGS: 'ignore' },
    });
    this.#process.stderr.on('data', (chunk) => {
      this.#complaints += chunk;
    });
    this.#process.stdin.on('error', () => {});
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async ask(request, options = {}) {
    this.#process.stdin.write(`${JSON.stringify({ request, ...options })}\n`);
    // Anything else on standard output is a library talking.
    for (;;) {
      const { value, done } = await this.#answers.next();
      if (done) throw new Error(`the process ended during "${request}":\n${this.#complaints.slice(-3000)}`);
      if (value.startsWith('{')) return JSON.parse(value);
    }
  }

  async close() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.stdin.end();
    await ended;
  }
}

export function startFr1() {
  return new EngineProcess(process.execPath, [fileBeside('fr1-engine.mjs')]);
}

export function startPyTorch(python) {
  return new EngineProcess(python, [fileBeside('pytorch_engine.py')]);
}

/** A Python with torch and transformers, or why there is none. */
export function findPython() {
  const python = process.env.FR1_PYTHON || 'python3';
  const { status, stderr, error } = spawnSync(python, ['-c', 'import numpy, torch, transformers'], {
    encoding: 'utf8',
  });
  if (status === 0) return { python };
  const reason = error?.message ?? stderr.trim().split('\n').at(-1);
  return { python: null, reason: `${python}: ${reason}` };
}
