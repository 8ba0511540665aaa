/** `fr1 gc` and `fr1 pin`: removes what no recent or pinned run uses. */
import { MachineLeases } from '../pool/machine-leases.ts';
import { collectGarbage, type GarbageReport, pinRun, type Removed } from '../run/collect-garbage.ts';
import { findRun } from '../run/recorder.ts';
import { bytesText, countOf } from '../ui/words.ts';
import { type CliIo, writeLines } from './io.ts';
import type { GcFlags, PinFlags } from './main.ts';
import { lockExisting } from './open-workspace.ts';

/** Artifacts named one by one; of more, only the count is told. */
const SHOWN = 20;

export async function gcCommand(flags: GcFlags, io: CliIo): Promise<number> {
  await using locked = await lockExisting(flags.workspace, io);
  const leaseDirectory = io.env['FR1_LEASE_DIR'];
  if (leaseDirectory !== 'off' && !flags.dryRun) await new MachineLeases(leaseDirectory || undefined).prune();
  const report = await collectGarbage(locked.workspace, { keepRuns: flags.keep, dryRun: flags.dryRun ?? false });
  writeLines(io.stdout, flags.json ? [JSON.stringify(report, null, 2)] : reportLines(report));
  return 0;
}

export async function pinCommand(run: string, flags: PinFlags, io: CliIo): Promise<number> {
  await using locked = await lockExisting(flags.workspace, io);
  const { id } = await findRun(locked.workspace, run);
  await pinRun(locked.workspace, id, !flags.off);
  writeLines(io.stdout, [
    flags.off ? `run ${id} is no longer pinned` : `run ${id} is pinned: fr1 gc keeps what it made`,
  ]);
  return 0;
}

function reportLines(report: GarbageReport): string[] {
  const word = report.dryRun ? 'would remove' : 'removed';
  const named = report.removed.filter(({ what }) => what === 'artifact' || what === 'work');
  const lines = named.slice(0, SHOWN).map((item) => `${word} ${describe(item)}`);
  if (named.length > SHOWN) lines.push(`${word} ${named.length - SHOWN} more`);
  const others = (['cache-entry', 'temporary'] as const)
    .map((what) => [what, report.removed.filter((item) => item.what === what).length] as const)
    .filter(([, count]) => count > 0)
    .map(([what, count]) => countOf(count, what === 'cache-entry' ? 'cache entry' : 'temporary file'));
  if (others.length > 0) lines.push(`${word} ${others.join(' and ')}`);
  const freed = `${report.dryRun ? 'would free' : 'freed'} ${bytesText(report.freedBytes)}`;
  const kept = `${countOf(report.keptArtifacts, 'artifact')} (${bytesText(report.keptBytes)}) of ${countOf(report.keptRuns.length, 'run')}`;
  return [...lines, `${report.removed.length === 0 ? 'nothing to remove' : freed}; kept ${kept}`];
}

function describe({ what, path, bytes, of }: Removed): string {
  const [, hex = ''] = path.split('/');
  if (what === 'work') return `unfinished work ${hex.slice(0, 12)}, ${bytesText(bytes)}`;
  return `artifact ${hex.slice(0, 12)}${of.length > 0 ? ` (${of.join(', ')})` : ''}, ${bytesText(bytes)}`;
}
