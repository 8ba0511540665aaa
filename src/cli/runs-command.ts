/** `fr1 runs`: the runs of a workspace, the latest first. */
import { listRuns } from '../run/recorder.ts';
import type { RunRecord, StageStatus } from '../run/run-record.ts';
import { Workspace } from '../run/workspace.ts';
import { tableLines } from '../ui/table.ts';
import { durationText } from '../ui/words.ts';
import { type CliIo, writeLines } from './io.ts';
import type { RunsFlags } from './main.ts';
import { findWorkspace } from './show-command.ts';

export async function runsCommand(flags: RunsFlags, io: CliIo): Promise<number> {
  const directory = findWorkspace(flags.workspace, io);
  const records = await listRuns(new Workspace(directory));
  const shown = records.slice(0, flags.last);
  if (flags.json) {
    const runs = shown.map(({ id, pipeline, status, startedAt, durationMs, seed, device, stages }) => ({
      ...{ id, pipeline, status, startedAt, durationMs, seed, device },
      stages: stages.map(({ name, kind, status }) => ({ name, kind, status })),
    }));
    writeLines(io.stdout, [JSON.stringify({ version: 1, workspace: directory, runs }, null, 2)]);
  } else if (shown.length === 0) {
    writeLines(io.stdout, [`no run in ${directory}`]);
  } else {
    const rows = shown.map(rowOf);
    const columns = ['run', 'pipeline', 'status', 'time', 'stages'];
    const hidden = records.length - shown.length;
    writeLines(io.stdout, [
      ...tableLines({ title: `Runs in ${directory}`, columns, rows }),
      ...(hidden > 0 ? [`and ${hidden} more`] : []),
    ]);
  }
  return 0;
}

function rowOf({ id, pipeline, status, durationMs, stages }: RunRecord): string[] {
  const counts = new Map<StageStatus, number>();
  for (const stage of stages) counts.set(stage.status, (counts.get(stage.status) ?? 0) + 1);
  const summary = [...counts].map(([each, count]) => `${count} ${each}`).join(', ');
  return [id, pipeline, status, durationMs === undefined ? '' : durationText(durationMs), summary];
}
