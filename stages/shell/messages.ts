/**
 * What a command tells fr1 on its standard output: a line `fr1: {...}` with one JSON object, whose keys are
 *
 *   progress  { "done": 3, "total": 10, "unit": "steps", "note": "loss 1.2" }     unit and note may be left out
 *   metric    { "step": 3, "values": { "loss": 1.2 } }                            a point of the training curves
 *   warn      "text"
 *
 * Any other line is a line of the log.
 */
import type { Progress } from '../../src/run/stage-api.ts';

export interface CommandListener {
  log(message: string): void;
  warn(message: string): void;
  progress(progress: Progress): void;
  metric(step: number, values: Readonly<Record<string, number>>): void;
}

const PREFIX = 'fr1:';

/** Hands a line on; one that begins like a message and is none is logged with a warning. */
export function hearLine(line: string, listener: CommandListener): void {
  if (!line.startsWith(PREFIX)) {
    listener.log(line);
    return;
  }
  const message = parse(line.slice(PREFIX.length));
  const { progress, metric, warn } = message ?? {};
  if (isRecord(progress) && isNumber(progress['done']) && isNumber(progress['total'])) {
    const { done, total, unit, note } = progress;
    const text = typeof note === 'string' ? { note } : {};
    listener.progress({ done, total, unit: typeof unit === 'string' ? unit : 'steps', ...text });
  } else if (isRecord(metric) && isNumber(metric['step']) && isNumbers(metric['values'])) {
    listener.metric(metric['step'], metric['values']);
  } else if (typeof warn === 'string') {
    listener.warn(warn);
  } else {
    listener.warn(`not a message that fr1 understands: ${line.slice(0, 200)}`);
  }
}

function parse(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function isNumbers(value: unknown): value is Readonly<Record<string, number>> {
  return isRecord(value) && Object.values(value).every(isNumber);
}
