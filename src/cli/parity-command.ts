/** `fr1 parity`: this engine against values that another implementation recorded for the same weights. */
import { resolve } from 'node:path';
import { openModelFolder } from '../engine/adapters/model-folder.ts';
import type { Execution } from '../engine/models/qwen2_5_vl/execution.ts';
import { compareWithExpected, type ParityReport, type ParityRow } from '../engine/models/qwen2_5_vl/parity.ts';
import { SessionPool } from '../pool/pool.ts';
import { sourceOfLease } from '../pool/session-source.ts';
import { tableLines } from '../ui/table.ts';
import { type CliIo, writeLines } from './io.ts';

export interface ParityFlags {
  readonly grads?: string;
  readonly generate?: string;
  readonly adapter?: string;
  readonly inputs?: string;
  readonly execution?: Execution;
  readonly device: string;
  readonly threads?: number;
  readonly json?: boolean;
}

/** Rows shown of those within tolerance; the others are all shown. */
const SHOWN_GRADIENTS = 5;

/** @returns 0 when every value is within its tolerance, else 1 */
export async function parityCommand(
  checkpointDir: string,
  expected: string,
  flags: ParityFlags,
  io: CliIo,
): Promise<number> {
  const path = (given: string) => resolve(io.cwd, given);
  const folder = openModelFolder(path(checkpointDir), flags.adapter && path(flags.adapter));
  const abort = new AbortController();
  const stopListening = io.onInterrupt(() => abort.abort(new DOMException('interrupted', 'AbortError')));
  const pool = await SessionPool.open({ devices: [flags.device], threads: flags.threads });
  try {
    await using lease = await pool.lease({ holder: 'parity', signal: abort.signal });
    const compared = await compareWithExpected(
      sourceOfLease(lease),
      folder,
      {
        expected: path(expected),
        inputs: flags.inputs && path(flags.inputs),
        gradients: flags.grads && path(flags.grads),
        generated: flags.generate && path(flags.generate),
        execution: flags.execution,
      },
      abort.signal,
    );
    const holds = compared.rows.every(({ within }) => within);
    writeLines(
      io.stdout,
      flags.json ? [JSON.stringify({ version: 1, holds, ...compared }, null, 2)] : report(compared),
    );
    return holds ? 0 : 1;
  } catch (error) {
    if (!abort.signal.aborted) throw error;
    return 130;
  } finally {
    stopListening();
    await pool.close();
  }
}

/** Values, then the worst gradients; whatever is beyond its tolerance is always shown. */
function report({ rows, notCompared }: ParityReport): string[] {
  const isGradient = ({ measure }: ParityRow) => measure === 'relative norm';
  const gradients = rows.filter(isGradient).sort((a, b) => ratio(b) - ratio(a));
  const wrong = gradients.filter(({ within }) => !within).length;
  const shown = gradients.slice(0, Math.max(SHOWN_GRADIENTS, wrong));
  const lines = (some: readonly ParityRow[]) =>
    some.map(({ name, measure, error, tolerance, scale, within }) => [
      name,
      measure,
      figure(error),
      figure(tolerance),
      figure(scale),
      within ? 'ok' : 'BEYOND',
    ]);
  const columns = ['tensor', 'measure', 'error', 'tolerance', 'scale', ''];
  const beyond = rows.filter(({ within }) => !within).length;
  return [
    ...tableLines({ title: 'Values', columns, rows: lines(rows.filter((row) => !isGradient(row))) }),
    ...(gradients.length === 0
      ? []
      : [
          '',
          ...tableLines({
            title: `Gradients: the worst ${shown.length} of ${gradients.length}`,
            columns,
            rows: lines(shown),
          }),
        ]),
    '',
    ...(notCompared.length === 0
      ? []
      : [
          `not compared, since the file has no gradient of them: ${notCompared.length} weights, ${someOf(notCompared)}`,
        ]),
    beyond === 0 ? `all ${rows.length} agree` : `${beyond} of ${rows.length} are beyond their tolerance`,
  ];
}

function someOf(names: readonly string[]): string {
  return names.length > 3 ? `${names.slice(0, 3).join(', ')} ...` : names.join(', ');
}

const ratio = ({ error, tolerance }: ParityRow) => (Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / tolerance);

function figure(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toExponential(1);
}
