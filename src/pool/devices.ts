/** Which devices can be used; loads no runtime, so that a command can tell before it does anything. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';

/**
 * The CPU as a whole, or a part of it: `cpu:0`, `cpu:1` and so on are lent separately and share the processors, so that
 * stages can compute side by side.
 */
export function isCpu(id: string): boolean {
  return /^cpu(:\d+)?$/.test(id);
}

/** Ids between commas, without repeats; all must be of one kind, since the kind decides the numbers that come out. */
export function deviceIds(list: string): readonly string[] {
  const ids = [...new Set(list.split(',').map((id) => id.trim()))];
  const kinds = new Set(ids.map((id) => id.split(':')[0]));
  if (kinds.size > 1) {
    throw new Fr1Error('DEVICE_UNAVAILABLE', `a run cannot mix devices of different kinds: ${ids.join(', ')}`, {
      hint: 'results depend on the kind of device; name several of one kind, e.g. cuda:0,cuda:1',
    });
  }
  return ids;
}

/**
 * Refuses every device but the CPU, saying why.
 *
 * @throws DEVICE_UNAVAILABLE
 */
export function requireUsableDevice(id: string): void {
  if (isCpu(id)) return;
  if (/^(webgpu|cuda)(:\d+)?$/.test(id)) {
    throw new Fr1Error('DEVICE_UNAVAILABLE', `the device "${id}" cannot be used yet: only the CPU is supported`, {
      hint: 'run with --device cpu',
    });
  }
  throw new Fr1Error('DEVICE_UNAVAILABLE', `there is no device "${id}"`, { hint: didYouMean(id, ['cpu'], 'devices') });
}
