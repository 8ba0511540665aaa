import { expect, it } from 'vitest';
import { leaseEnvironment } from './lease.ts';

it.each([
  ['cuda:3', '3'],
  ['cuda', '0'],
  ['cpu', ''],
  ['webgpu', ''],
  [undefined, ''],
])('shows a child of %s the CUDA devices "%s"', (device, visible) => {
  expect(leaseEnvironment(device)['CUDA_VISIBLE_DEVICES']).toBe(visible);
});
