/** Which devices can be used; loads no runtime, so that a command can tell before it does anything. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';

/**
 * Refuses every device but the CPU, saying why.
 *
 * @throws DEVICE_UNAVAILABLE
 */
export function requireUsableDevice(id: string): void {
  if (id === 'cpu') return;
  if (/^(webgpu|cuda)(:\d+)?$/.test(id)) {
    throw new Fr1Error('DEVICE_UNAVAILABLE', `the device "${id}" cannot be used yet: only the CPU is supported`, {
      hint: 'run with --device cpu',
    });
  }
  throw new Fr1Error('DEVICE_UNAVAILABLE', `there is no device "${id}"`, { hint: didYouMean(id, ['cpu'], 'devices') });
}
