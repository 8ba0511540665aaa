/** `fr1 verify`: reads every artifact again and names those that are damaged or gone. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { type UnusableArtifact, verifyStore } from '../run/verify-store.ts';
import { bytesText, countOf } from '../ui/words.ts';
import { abortOnInterrupt } from './abort-on-interrupt.ts';
import { type CliIo, isTerminal, writeLines } from './io.ts';
import type { WorkspaceFlags } from './main.ts';
import { lockExisting } from './open-workspace.ts';

/** @throws STORE_DAMAGED after the report, so that the command ends with 1 */
export async function verifyCommand(flags: WorkspaceFlags, io: CliIo): Promise<number> {
  await using interrupt = abortOnInterrupt(io);
  await using locked = await lockExisting(flags.workspace, io, { readOnly: true });
  const isLive = !flags.json && isTerminal(io.stderr);
  const report = await verifyStore(locked.workspace, {
    signal: interrupt.signal,
    onArtifact: (done, total) => {
      if (isLive) io.stderr.write(`\r${done}/${total} artifacts`);
    },
  });
  if (isLive) io.stderr.write('\r\u001b[K');
  const bad = report.damaged.length + report.missing.length;
  if (flags.json) {
    writeLines(io.stdout, [JSON.stringify(report, null, 2)]);
    return bad > 0 ? 1 : 0;
  }
  writeLines(io.stdout, [
    ...report.damaged.map((artifact) => `damaged: ${describe(artifact)}`),
    ...report.missing.map((artifact) => `missing: ${describe(artifact)}`),
    `${countOf(report.intact, 'artifact')} intact, ${bytesText(report.bytes)}`,
  ]);
  if (bad === 0) return 0;
  throw new Fr1Error('STORE_DAMAGED', `${countOf(bad, 'artifact')} of this workspace cannot be used`, {
    hint: 'run the pipeline again: what is damaged or missing is made again, and is never used as it is',
  });
}

function describe({ digest, madeBy, reason }: UnusableArtifact): string {
  const who = madeBy.length > 0 ? madeBy.join(', ') : 'no finished stage';
  return `${digest.slice(0, 'sha256:'.length + 12)} (${who}): ${reason}`;
}
