/** `fr1 logs`: a run's events as the lines that a terminal without redrawing would have shown, each with its time. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { RunEvent } from '../run/events.ts';
import { isWorkspaceInUse } from '../run/lock.ts';
import { findRun, readRecord } from '../run/recorder.ts';
import { Workspace } from '../run/workspace.ts';
import { plainRenderer } from '../ui/plain.ts';
import { type CliIo, writeLines } from './io.ts';
import type { LogsFlags } from './main.ts';
import { findWorkspace } from './show-command.ts';

const POLL_MS = 200;

export async function logsCommand(stage: string | undefined, flags: LogsFlags, io: CliIo): Promise<number> {
  const workspace = new Workspace(findWorkspace(flags.workspace, io));
  const record = await findRun(workspace, flags.run);
  const names = record.stages.map(({ name }) => name);
  if (stage !== undefined && !names.includes(stage)) {
    throw new Fr1Error('STAGE_UNKNOWN', `run ${record.id} has no stage "${stage}"`, {
      hint: didYouMean(stage, names, 'stages'),
    });
  }
  const show = eventPrinter(stage, io);
  const stopped = new AbortController();
  const ignoreInterrupts = io.onInterrupt(() => stopped.abort());
  try {
    const file = join(workspace.directory, 'runs', record.id, 'events.jsonl');
    for await (const event of readEventsAsTheyCome(file, stopped.signal, async () => {
      const isOpen = flags.follow === true && (await readRecord(workspace, record.id))?.status === 'running';
      // A run that was killed stays at `running` until the next one.
      return isOpen && (await isWorkspaceInUse(workspace.directory));
    })) {
      show(event);
    }
  } finally {
    ignoreInterrupts();
  }
  return 0;
}

function eventPrinter(stage: string | undefined, io: CliIo): (event: RunEvent) => void {
  let time = '';
  const render = plainRenderer((line) => {
    if (line !== '') writeLines(io.stdout, [`${time}  ${line}`]);
  });
  return (event) => {
    const concerns = stage === undefined || event.type === 'run-started' || ('stage' in event && event.stage === stage);
    if (!concerns) return;
    time = event.time.slice(11, 19);
    render(event);
  };
}

/** Events of a file that may still grow; ends after the last line once `goesOn` says so, or when aborted. */
async function* readEventsAsTheyCome(
  path: string,
  signal: AbortSignal,
  goesOn: () => Promise<boolean>,
): AsyncGenerator<RunEvent> {
  const file = await open(path, 'r');
  try {
    const decoder = new TextDecoder();
    let text = '';
    for (let isLive = true; isLive && !signal.aborted; ) {
      // Asked before reading: what is written in between is read below.
      isLive = await goesOn();
      for (;;) {
        const { bytesRead, buffer } = await file.read({ buffer: Buffer.alloc(1 << 16) });
        if (bytesRead === 0) break;
        text += decoder.decode(buffer.subarray(0, bytesRead), { stream: true });
        const end = text.lastIndexOf('\n') + 1;
        for (const line of text.slice(0, end).split('\n')) if (line !== '') yield JSON.parse(line) as RunEvent;
        text = text.slice(end);
      }
      if (isLive) await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    await file.close();
  }
}
