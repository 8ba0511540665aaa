/** Events as plain lines, for logs and pipes: no colour, no cursor movement, at most one progress line per 5 s and stage. */
import type { RunEvent } from '../run/events.ts';
import { EtaEstimator } from './eta.ts';
import {
  agoText,
  busyText,
  countOf,
  countText,
  durationText,
  expectationText,
  firstLine,
  memoryText,
  metricText,
  oneLine,
  peakText,
  reasonText,
  retryText,
} from './words.ts';

const PROGRESS_INTERVAL_MS = 5_000;

/**
 * Returns a listener that writes lines. Everything it shows about time comes from the events, so that the same events
 * give the same lines.
 */
export function plainRenderer(writeLine: (line: string) => void): (event: RunEvent) => void {
  const etas = new Map<string, EtaEstimator>();
  const lastShown = new Map<string, number>();
  let width = 0;
  const stageLine = (stage: string, text: string) => writeLine(`${`[${stage}]`.padEnd(width)}  ${text}`);

  return (event) => {
    const at = Date.parse(event.time);
    switch (event.type) {
      case 'run-started':
        width = Math.max(0, ...event.stages.map((stage) => stage.name.length)) + 2;
        writeLine(
          `${event.pipeline}: ${countOf(event.stages.length, 'stage')}, seed ${event.seed}, device ${event.device}`,
        );
        return;
      case 'stage-planned':
        stageLine(event.stage, `will run: ${oneLine(reasonText(event.reason))}`);
        return;
      case 'stage-cached':
        stageLine(event.stage, `cached: made ${agoText(event.finishedAt, at)} in ${durationText(event.durationMs)}`);
        return;
      case 'stage-started': {
        const where = event.device ? ` on ${event.device}` : '';
        stageLine(event.stage, event.resumes ? `continues from its last checkpoint${where}` : `starts${where}`);
        return;
      }
      case 'stage-progress': {
        const eta = etas.get(event.stage) ?? new EtaEstimator();
        etas.set(event.stage, eta);
        const remaining = eta.observe(event, at);
        if (at - (lastShown.get(event.stage) ?? Number.NEGATIVE_INFINITY) < PROGRESS_INTERVAL_MS) return;
        lastShown.set(event.stage, at);
        stageLine(event.stage, progressText(event, remaining));
        return;
      }
      case 'stage-log':
        stageLine(event.stage, oneLine(event.message));
        return;
      case 'stage-warn':
        stageLine(event.stage, `warning: ${oneLine(event.message)}`);
        return;
      case 'stage-memory':
        stageLine(event.stage, memoryText(event));
        return;
      case 'stage-finished':
        if (event.memory?.expectedBytes !== undefined) stageLine(event.stage, peakText(event.memory));
        stageLine(event.stage, finishedText(event));
        return;
      case 'stage-failed':
        stageLine(event.stage, `FAILED after ${durationText(event.durationMs)}: ${firstLine(event.error.message)}`);
        return;
      case 'stage-expectation-failed':
        stageLine(event.stage, `FAILED: ${expectationText(event.expectation)}`);
        return;
      case 'stage-stopped':
        if (event.why === 'interrupted') stageLine(event.stage, 'stopped');
        else if (event.why === 'blocked') stageLine(event.stage, `not run: stage "${event.by}" did not succeed`);
        else if (event.by !== undefined) stageLine(event.stage, `not run: stage "${event.by}" has failed before`);
        return;
      case 'stage-skipped':
        stageLine(event.stage, `skipped: ${oneLine(event.why)}`);
        return;
      case 'stage-retrying':
        stageLine(event.stage, retryText(event));
        return;
      case 'stage-quiet':
        stageLine(event.stage, `silent for ${durationText(event.quietMs)}: ${event.hint}`);
        return;
      case 'output-placed':
        if (event.isNew) writeLine(`${event.mode === 'link' ? 'linked' : 'copied'} ${oneLine(event.output)}`);
        return;
      case 'output-failed':
        writeLine(`FAILED: ${oneLine(event.error.message)}`);
        return;
      case 'run-warn':
        writeLine(`warning: ${oneLine(event.message)}`);
        return;
      case 'run-finished':
        writeLine('');
        return;
      case 'device-busy':
        stageLine(event.stage, busyText(event));
        return;
      case 'device-usage':
      case 'device-leased':
      case 'device-released':
      case 'stage-metric':
        return;
      default:
        throw new TypeError(`unknown event ${(event satisfies never as RunEvent).type}`);
    }
  };
}

/** `120/600 steps  20 %  1 min 10 s left  loss 1.23`. */
export function progressText(
  event: Extract<RunEvent, { type: 'stage-progress' }>,
  remainingMs: number | undefined,
): string {
  const eta = remainingMs === undefined || event.done === event.total ? [] : [`${durationText(remainingMs)} left`];
  const note = event.note ? [oneLine(event.note)] : [];
  return [countText(event), ...eta, ...note].join('  ');
}

/** `done in 12 s: accuracy 0.6125 [0.5660, 0.6585]`. */
export function finishedText(event: Extract<RunEvent, { type: 'stage-finished' }>): string {
  const metrics = Object.entries(event.metrics).slice(0, 3);
  const shown = metrics.map(([name, metric]) => `${name} ${metricText(metric)}`).join(', ');
  return `done in ${durationText(event.durationMs)}${shown ? `: ${shown}` : ''}`;
}
