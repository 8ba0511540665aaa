/** `fr1 show`: metrics and tables of a run that is over or under way. */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { findRun } from '../run/recorder.ts';
import type { RunRecord } from '../run/run-record.ts';
import { Workspace } from '../run/workspace.ts';
import { failureLines, tablesOf, warningLines } from '../ui/summary.ts';
import { tableLines } from '../ui/table.ts';
import { bytesText, durationText } from '../ui/words.ts';
import { type CliIo, shortPath, wantsColour, writeLines } from './io.ts';
import type { ShowFlags } from './main.ts';

export async function showCommand(run: string, flags: ShowFlags, io: CliIo): Promise<number> {
  const workspace = new Workspace(findWorkspace(flags.workspace, io));
  const record = await findRun(workspace, run);
  if (flags.json) {
    writeLines(io.stdout, [JSON.stringify(record, null, 2)]);
  } else {
    const showPath = shortPath(io);
    writeLines(io.stdout, [
      ...headLines(record),
      '',
      ...tablesOf(record),
      ...warningLines(record),
      ...(await placeLines(record, workspace, showPath)),
    ]);
    writeLines(io.stderr, failureLines(record, { colour: wantsColour(io), showPath }));
  }
  return 0;
}

/** The named folder, its `.fr1`, or without a name the one in the working directory or in its pipelines folder. */
export function findWorkspace(named: string | undefined, io: CliIo): string {
  const isWorkspace = (path: string) => existsSync(join(path, 'runs'));
  if (named !== undefined) {
    const path = resolve(io.cwd, named);
    return !isWorkspace(path) && basename(path) !== '.fr1' ? join(path, '.fr1') : path;
  }
  const candidates = defaultWorkspaces(io);
  return candidates.find(isWorkspace) ?? candidates[0];
}

/** Where `show` looks when no workspace is named, in this order. */
export function defaultWorkspaces(io: CliIo): readonly [string, string] {
  return [join(io.cwd, '.fr1'), join(io.cwd, 'pipelines', '.fr1')];
}

function headLines(record: RunRecord): string[] {
  const took = record.durationMs === undefined ? '' : ` in ${durationText(record.durationMs)}`;
  const rows = record.stages.map(({ name, kind, status, durationMs }) => [
    name,
    kind,
    status,
    durationMs === undefined ? '' : durationText(durationMs),
  ]);
  return [
    `run ${record.id} of ${record.pipeline} (${record.file}): ${record.status}${took}`,
    `started ${record.startedAt}, seed ${record.seed}, device ${record.device}`,
    '',
    ...tableLines({ title: 'Stages', columns: ['stage', 'kind', 'status', 'time'], rows }),
  ];
}

async function placeLines(
  record: RunRecord,
  workspace: Workspace,
  showPath: (path: string) => string,
): Promise<string[]> {
  const rows: string[][] = [];
  for (const stage of record.stages) {
    for (const [name, { type, path, digest }] of Object.entries(stage.outputs)) {
      const bytes = await workspace.store.bytesOf(digest);
      rows.push([`${stage.name}.${name}`, type, bytes === undefined ? 'gone' : bytesText(bytes), showPath(path)]);
    }
  }
  return rows.length === 0 ? [] : tableLines({ title: 'Artifacts', columns: ['output', 'type', 'size', 'path'], rows });
}
