/** Values as short English text, for terminals. Pure. */
import type {
  BetterThanRecord,
  DeviceUsage,
  ExpectationRecord,
  MemoryRecord,
  RunEvent,
  RunReason,
} from '../run/events.ts';
import type { Metric, Progress } from '../run/stage-api.ts';

/** `40 ms`, `0.4 s`, `12 s`, `3 min 05 s`, `2 h 04 min`. */
export function durationText(ms: number): string {
  if (ms < 100) return `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** `just now`, `5 min ago`, `3 h ago`, `2 days ago`. */
export function agoText(time: string, now: number): string {
  const minutes = Math.floor((now - Date.parse(time)) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ago`;
  return `${Math.floor(hours / 24)} days ago`;
}

/** `0 B`, `812 B`, `4.2 MiB`. */
export function bytesText(bytes: number): string {
  let [size, unit] = [bytes, 'B'];
  for (const larger of ['KiB', 'MiB', 'GiB', 'TiB']) {
    if (size < 1024) break;
    [size, unit] = [size / 1024, larger];
  }
  return `${unit === 'B' || size >= 100 ? Math.round(size) : size.toFixed(1)} ${unit}`;
}

/** `takes about 9.1 GiB of memory: frozen weights 7.0 GiB, activations 1.4 GiB`. */
export function memoryText({ expectedBytes, parts }: Extract<RunEvent, { type: 'stage-memory' }>): string {
  const large = Object.entries(parts).filter(([, bytes]) => bytes > 0.05 * expectedBytes);
  const list = large.sort(([, a], [, b]) => b - a).map(([name, bytes]) => `${name} ${bytesText(bytes)}`);
  return `takes about ${bytesText(expectedBytes)} of memory${list.length > 0 ? `: ${list.join(', ')}` : ''}`;
}

/** `took 8.9 GiB of memory at most (310 MiB when it began), expected 9.1 GiB`; what earlier stages left counts in it. */
export function peakText({ startBytes, peakBytes, expectedBytes }: MemoryRecord): string {
  const expected = expectedBytes === undefined ? '' : `, expected ${bytesText(expectedBytes)}`;
  return `took ${bytesText(peakBytes)} of memory at most (${bytesText(startBytes)} when it began)${expected}`;
}

/** `1 artifact`, `3 artifacts`, `2 entries`. */
export function countOf(count: number, noun: string): string {
  if (count === 1) return `1 ${noun}`;
  return `${count} ${noun.endsWith('y') ? `${noun.slice(0, -1)}ies` : `${noun}s`}`;
}

export function reasonText(reason: RunReason): string {
  switch (reason.kind) {
    case 'first':
      return 'it has not run before';
    case 'unfinished':
      return 'an earlier run did not finish it';
    case 'forced':
      return '--force';
    case 'damaged':
      return `its output "${reason.output}" cannot be reused (${reason.detail})`;
    case 'changed': {
      const shown = reason.changes.slice(0, 3).map(({ path, before, after }) => {
        if (path === 'code') return 'the code of its plugin changed';
        if (path.startsWith('inputs')) return `${path} changed`;
        if (before === undefined) return `${path} ${valueText(after)} is new`;
        if (after === undefined) return `${path} ${valueText(before)} is gone`;
        return `${path} changed ${valueText(before)} -> ${valueText(after)}`;
      });
      if (shown.length === 0) return 'what its last run left is gone';
      const more = reason.changes.length - shown.length;
      return shown.join(', ') + (more > 0 ? `, and ${more} more` : '');
    }
    default:
      throw new TypeError(`unknown reason ${(reason satisfies never as RunReason).kind}`);
  }
}

/** `0.6125 [0.5660, 0.6585]`: a value with its 95 % confidence interval, where it has one. */
export function metricText(metric: Metric): string {
  const value = numberText(metric.value);
  if (metric.low === undefined || metric.high === undefined) return value;
  return `${value} [${numberText(metric.low)}, ${numberText(metric.high)}]`;
}

/** `expected accuracy at least 0.6, got 0.5500 [0.5010, 0.5990]`. */
export function expectationText({ metric, atLeast, atMost, within, betterThan, got }: ExpectationRecord): string {
  const bounds = [
    ...(atLeast === undefined ? [] : [`at least ${atLeast}`]),
    ...(atMost === undefined ? [] : [`at most ${atMost}`]),
    ...(within === undefined ? [] : [`within ${within.tolerance} of ${within.of}`]),
    ...(betterThan === undefined ? [] : [betterText(betterThan)]),
  ].join(' and ');
  const found = got === null ? 'the stage returned no such metric' : `got ${metricText(got)}`;
  const p = betterThan?.p == null ? '' : `, p ${betterThan.p < 0.0001 ? '< 0.0001' : `= ${betterThan.p.toFixed(4)}`}`;
  return `expected ${metric} ${bounds}, ${found}${p}`;
}

function betterText({ stage, metric, by, significance, direction, other }: BetterThanRecord): string {
  const margin = by > 0 ? ` by more than ${by}` : '';
  const value = other === null ? ', which it did not return' : ` (${metricText(other)})`;
  return `${direction} than ${metric} of "${stage}"${value}${margin} at p < ${significance}`;
}

/** `attempt 1 of 3 failed, the next begins in 30 s: the server is gone`. */
export function retryText(event: Extract<RunEvent, { type: 'stage-retrying' }>): string {
  const { attempt, attempts, delayMs, error } = event;
  return `attempt ${attempt} of ${attempts} failed, the next begins in ${durationText(delayMs)}: ${oneLine(error.message)}`;
}

/** `waits for cpu, which process 4711 (quickstart/sft) has had for 3 min 05 s; to share it: ...`. */
export function busyText(event: Extract<RunEvent, { type: 'device-busy' }>): string {
  const { pid, holder, device } = event;
  const who = `process ${pid} (${oneLine(holder)})`;
  const sofar = durationText(Math.max(0, Date.parse(event.time) - Date.parse(event.since)));
  const what =
    device === null
      ? `waits in line behind ${who}, which has waited for ${sofar}`
      : `waits for ${device}, which ${who} has had for ${sofar}`;
  const share = device === 'cpu' ? 'a lower --threads in both runs shares it, ' : '';
  return `${what}; ${share}FR1_LEASE_DIR=off would not wait`;
}

/** `cpu in use 83 % of the time (6 leases)`. */
export function usageText({ device, leases, share }: DeviceUsage): string {
  return `${device} in use ${Math.round(100 * share)} % of the time (${countOf(leases, 'lease')})`;
}

/** `120/600 steps  20 %`. */
export function countText({ done, total, unit }: Progress): string {
  if (total <= 0) return `${done} ${unit}`;
  return `${done}/${total} ${unit}  ${Math.floor((100 * done) / total)} %`;
}

/** Integers as they are, others with four digits after the point or four significant ones. */
export function numberText(value: number): string {
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 0.001 && size < 1e6 ? value.toFixed(4) : value.toPrecision(4);
}

/** User text on one line, without control characters that could steer a terminal. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced.
  return text.replace(/\s*[\r\n]+\s*/g, ' ').replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}

/** The first line of a message whose rest, a list, is told elsewhere. */
export function firstLine(text: string): string {
  const [first = '', ...rest] = text.trim().split(/[\r\n]+/);
  return oneLine(rest.length > 0 ? first.replace(/:$/, '') : first);
}

export function valueText(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}
