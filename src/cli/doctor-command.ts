/** `fr1 doctor`: what this machine offers, and how to get what is missing. */
import { parseDevice } from '../pool/devices.ts';
import { examine, type Finding } from '../pool/doctor.ts';
import { type CliIo, writeLines } from './io.ts';

export interface DoctorFlags {
  /** Must be usable too. */
  readonly device?: string;
  readonly json?: boolean;
}

/** Devices that a machine may lack. */
const OPTIONAL = ['webgpu', 'cuda'];

/**
 * @returns 0 when everything that is needed is there, else 1
 * @throws DEVICE_UNAVAILABLE for a device that fr1 does not know
 */
export async function doctorCommand(flags: DoctorFlags, io: CliIo): Promise<number> {
  if (flags.device !== undefined) parseDevice(flags.device);
  const findings = await examine(io.cwd, flags.device === undefined ? [] : [flags.device]);
  const isNeeded = ({ subject }: Finding) => subject === flags.device || !OPTIONAL.includes(subject);
  const exitCode = findings.every((finding) => finding.isUsable || !isNeeded(finding)) ? 0 : 1;
  if (flags.json) {
    writeLines(io.stdout, [JSON.stringify({ version: 1, ok: exitCode === 0, findings }, null, 2)]);
    return exitCode;
  }
  const width = Math.max(...findings.map(({ subject }) => subject.length)) + 2;
  writeLines(
    io.stdout,
    findings.flatMap(({ subject, isUsable, detail, steps }) => [
      `${isUsable ? 'ok ' : 'no '} ${subject.padEnd(width)}${detail}`,
      ...steps.map((step) => `${' '.repeat(4 + width)}${step}`),
    ]),
  );
  return exitCode;
}
