/**
 * Sums up the profiles that onnxruntime wrote into the folder FR1_PROFILE: time by session, and by kind of operator and device.
 *
 *     FR1_PROFILE=FOLDER npx fr1 run ...
 *     node bench/profile.mjs FOLDER [--session TEXT] [--top 15]
 *
 * Times are those of the operators inside each session; what the host does between runs is in none of them.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { session: { type: 'string', default: '' }, top: { type: 'string', default: '15' } },
});
const [folder] = positionals;
const top = Number(values.top);
if (folder === undefined || !(top >= 1)) {
  console.error('usage: node bench/profile.mjs FOLDER [--session TEXT] [--top N]');
  process.exit(2);
}

for (const file of readdirSync(folder).sort()) {
  if (!file.endsWith('.json') || !file.includes(values.session)) continue;
  report(file, JSON.parse(readFileSync(path.join(folder, file), 'utf8')));
}

/** @param events of the trace: `dur` in microseconds, `cat` Session or Node, `args.op_name`, `args.provider` */
function report(file, events) {
  const runs = events.filter(({ cat, name }) => cat === 'Session' && name === 'model_run');
  const kernels = new Map();
  for (const { cat, name, dur, args } of events) {
    if (cat !== 'Node' || !name.endsWith('_kernel_time')) continue;
    const kind = `${args.op_name} ${args.provider?.replace('ExecutionProvider', '') ?? ''}`;
    const sum = kernels.get(kind) ?? { count: 0, ms: 0 };
    kernels.set(kind, { count: sum.count + 1, ms: sum.ms + dur / 1000 });
  }
  const device = deviceTime(events);
  if (runs.length === 0) return;
  const total = runs.reduce((sum, { dur }) => sum + dur / 1000, 0);
  const inKernels = [...kernels.values()].reduce((sum, { ms }) => sum + ms, 0);
  console.log(
    `\n${file}\n${runs.length} runs, ${total.toFixed(1)} ms, ${(total / runs.length).toFixed(2)} ms a run; in operators ` +
      `${((100 * inKernels) / total).toFixed(0)} %${device === 0 ? '' : `; on the device ${device.toFixed(1)} ms`}`,
  );
  const sorted = [...kernels].sort(([, a], [, b]) => b.ms - a.ms).slice(0, top);
  for (const [kind, { count, ms }] of sorted) {
    console.log(
      `${kind.padEnd(36)} ${(count / runs.length).toFixed(1).padStart(8)} a run ${ms.toFixed(1).padStart(10)} ms ` +
        `${((100 * ms) / total).toFixed(1).padStart(6)} %`,
    );
  }
}

/** Milliseconds of the events that an accelerator's own clock timed. */
function deviceTime(events) {
  return events.filter(({ cat }) => cat === 'Api' || cat === 'Kernel').reduce((sum, { dur }) => sum + dur / 1000, 0);
}
