/** What every session is made with, whichever runtime makes it. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { SessionOptions } from './runtime.ts';

/**
 * Optimizers that make training graphs slower: MatMulAddFusion turns a residual add into a Gemm that runs at half the
 * speed of the matmul and the add, MatmulTransposeFusion gains nothing where Gemm already transposes.
 */
const SLOW_OPTIMIZERS = ['MatMulAddFusion', 'MatmulTransposeFusion'] as const;

/** Fatal messages only: whatever onnxruntime would log as an error it also returns, and its lines would break the display. */
export const LOG_SEVERITY = 4;

/** Numbers of GraphOptimizationLevel in the C API. */
export const OPTIMIZATION_LEVEL = { disabled: 0, basic: 1, extended: 2, all: 99 } as const;

/** Session configuration entries: the engine's own and the caller's, which win. */
export function configEntries(options: SessionOptions): Record<string, string> {
  return {
    // NOTE: threads that go on spinning after a run slow down every other session of the process by 2 to 9 times.
    'session.force_spinning_stop': '1',
    'optimization.disable_specified_optimizers': [...SLOW_OPTIMIZERS, ...(options.disabledOptimizers ?? [])].join(';'),
    ...(options.externalDataFolder === undefined
      ? {}
      : { 'session.model_external_initializers_file_folder_path': options.externalDataFolder }),
    ...options.config,
  };
}

/**
 * Where onnxruntime writes a session's profile, a JSON of the times of its operators, when the session is released: files in
 * the folder that FR1_PROFILE names, begun with the session's name. `bench/profile.mjs` sums them up.
 *
 * @returns null without FR1_PROFILE
 */
export function profilePrefix(session: string): string | null {
  const folder = process.env['FR1_PROFILE'];
  if (!folder) return null;
  mkdirSync(folder, { recursive: true });
  return path.join(folder, session.replace(/[^\w.-]+/g, '_').slice(0, 80));
}
