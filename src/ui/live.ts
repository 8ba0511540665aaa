/** Events as a live list in a terminal (listr2): one line per stage with its state, progress, remaining time and note. */
import {
  DefaultRenderer,
  Listr,
  ListrLogger,
  ListrTaskState,
  type ListrTaskWrapper,
  ProcessOutput,
  type SimpleRenderer,
} from 'listr2';
import type { RunEvent } from '../run/events.ts';
import { EtaEstimator } from './eta.ts';
import { finishedText, progressText } from './plain.ts';
import {
  agoText,
  busyText,
  countOf,
  durationText,
  expectationText,
  firstLine,
  memoryText,
  oneLine,
  reasonText,
  retryText,
} from './words.ts';

type Wrapper = ListrTaskWrapper<object, typeof TerminalRenderer, typeof SimpleRenderer>;

interface Row {
  readonly eta: EtaEstimator;
  readonly ended: Promise<void>;
  end(failure?: Error): void;
  /** Set once listr2 has begun to show the row. */
  task?: Wrapper;
  /** What to show before the row is up. */
  title: string;
  hasStarted: boolean;
  isOver: boolean;
  failure?: Error | undefined;
}

export interface LiveRenderer {
  onEvent(event: RunEvent): void;
  /** Draws the last state and gives the terminal back. */
  close(): Promise<void>;
}

/** The caller has seen that the streams are terminals; listr2 would look at those of the process instead. */
class TerminalRenderer extends DefaultRenderer {
  static override nonTTY = true;
}

export function liveRenderer(stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream): LiveRenderer {
  const rows = new Map<string, Row>();
  let shown: Promise<unknown> = Promise.resolve();
  let width = 0;

  const begin = (event: Extract<RunEvent, { type: 'run-started' }>) => {
    stdout.write(
      `${event.pipeline}: ${countOf(event.stages.length, 'stage')}, seed ${event.seed}, device ${event.device}\n`,
    );
    width = Math.max(0, ...event.stages.map((stage) => stage.name.length));
    for (const { name } of event.stages) rows.set(name, makeRow(name.padEnd(width)));
    const list = new Listr(
      event.stages.map(({ name }) => ({
        title: name.padEnd(width),
        task: async (_: object, task: Wrapper) => {
          const row = rows.get(name)!;
          row.task = task;
          task.title = row.title;
          // listr2 calls a task started as soon as it may run; here it waits for its inputs.
          if (!row.hasStarted) task.task.state$ = ListrTaskState.WAITING;
          await row.ended;
        },
      })),
      {
        concurrent: true,
        exitOnError: false,
        registerSignalListeners: false,
        renderer: TerminalRenderer,
        rendererOptions: {
          collapseErrors: false,
          showErrorMessage: false,
          formatOutput: 'truncate',
          logger: new ListrLogger({ useIcons: true, toStderr: [], processOutput: new ProcessOutput(stdout, stderr) }),
        },
      },
    );
    shown = list.run();
  };

  const set = (stage: string, text: string) => {
    const row = rows.get(stage);
    if (!row) return;
    row.title = `${stage.padEnd(width)}  ${text}`;
    if (row.task) row.task.title = row.title;
  };
  const start = (stage: string) => {
    const row = rows.get(stage);
    if (!row) return;
    row.hasStarted = true;
    if (row.task) row.task.task.state$ = ListrTaskState.STARTED;
  };
  const finish = (stage: string, text: string, failure?: Error) => {
    set(stage, text);
    start(stage);
    const row = rows.get(stage);
    if (!row) return;
    row.failure = failure;
    row.isOver = true;
    // An expectation that is not met comes right after the end of its stage.
    setImmediate(() => row.end(row.failure));
  };
  const note = (stage: string, text: string) => {
    const row = rows.get(stage);
    if (row?.task) row.task.output = text;
  };

  const onEvent = (event: RunEvent): void => {
    const at = Date.parse(event.time);
    switch (event.type) {
      case 'run-started':
        begin(event);
        return;
      case 'stage-planned':
        set(
          event.stage,
          `waits for ${event.needsDevice ? 'the device' : 'its turn'}; ${oneLine(reasonText(event.reason))}`,
        );
        return;
      case 'stage-cached':
        finish(event.stage, `cached: made ${agoText(event.finishedAt, at)} in ${durationText(event.durationMs)}`);
        return;
      case 'stage-started':
        start(event.stage);
        set(event.stage, event.resumes ? 'continues from its last checkpoint' : 'starts');
        return;
      case 'stage-progress':
        set(event.stage, progressText(event, rows.get(event.stage)?.eta.observe(event, at)));
        return;
      case 'stage-log':
        note(event.stage, oneLine(event.message));
        return;
      case 'stage-memory':
        note(event.stage, memoryText(event));
        return;
      case 'stage-warn':
        note(event.stage, `warning: ${oneLine(event.message)}`);
        return;
      case 'stage-finished':
        finish(event.stage, finishedText(event));
        return;
      case 'stage-failed': {
        const message = firstLine(event.error.message);
        finish(event.stage, `failed after ${durationText(event.durationMs)}: ${message}`, new Error(message));
        return;
      }
      case 'stage-expectation-failed':
        finish(event.stage, expectationText(event.expectation), new Error('expectation'));
        return;
      case 'stage-stopped': {
        const text = {
          interrupted: 'stopped',
          blocked: `not run: "${event.by}" did not succeed`,
          'not-started': event.by === undefined ? 'not run' : `not run: "${event.by}" has failed before`,
        };
        finish(event.stage, text[event.why], new Error(event.why));
        return;
      }
      case 'stage-skipped':
        finish(event.stage, `skipped: ${oneLine(event.why)}`);
        return;
      case 'stage-retrying':
        set(event.stage, retryText(event));
        return;
      case 'stage-quiet':
        note(event.stage, `silent for ${durationText(event.quietMs)}: ${event.hint}`);
        return;
      case 'run-warn':
        stderr.write(`warning: ${oneLine(event.message)}\n`);
        return;
      case 'run-finished':
        for (const [name, row] of rows) {
          if (!row.isOver) finish(name, 'not run', new Error('not run'));
        }
        return;
      case 'device-busy':
        set(event.stage, busyText(event));
        return;
      case 'output-placed':
      case 'output-failed':
      case 'device-usage':
      case 'device-leased':
      case 'device-released':
      case 'stage-metric':
        return;
      default:
        throw new TypeError(`unknown event ${(event satisfies never as RunEvent).type}`);
    }
  };

  return {
    onEvent,
    close: async () => {
      for (const row of rows.values()) row.end(row.failure);
      await shown;
      stdout.write('\n');
    },
  };
}

function makeRow(title: string): Row {
  let end = (_failure?: Error) => {};
  const ended = new Promise<void>((resolve, reject) => {
    end = (failure) => (failure ? reject(failure) : resolve());
  });
  // listr2 attaches itself a little later than the row may end.
  ended.catch(() => undefined);
  return { eta: new EtaEstimator(), ended, end, title, hasStarted: false, isOver: false };
}
