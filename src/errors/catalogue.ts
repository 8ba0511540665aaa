/**
 * Every error code with its explanation. `docs/errors.md` is generated from this table.
 *
 * `exit` is the process exit code when the error ends a command: 1 a stage failed, 2 the user's input is wrong.
 */
export interface CatalogueEntry {
  readonly exit: 1 | 2;
  /** When it happens and why, one or two sentences. */
  readonly explanation: string;
}

export const CATALOGUE = {
  // engine: graph and ops
  SHAPE_MISMATCH: { exit: 1, explanation: 'An operator was given tensors whose shapes do not fit together.' },
  DTYPE_MISMATCH: { exit: 1, explanation: 'An operator was given a tensor of an element type it does not take.' },
  GRADIENT_FORBIDDEN: {
    exit: 1,
    explanation: 'A gradient was asked for through an operator that has none, for a stated reason.',
  },
  // engine: runtime
  RUNTIME_UNAVAILABLE: { exit: 1, explanation: 'The onnxruntime library could not be loaded or is too old.' },
  RUNTIME_SESSION_FAILED: { exit: 1, explanation: 'onnxruntime refused a graph or its weights.' },
  RUNTIME_RUN_FAILED: { exit: 1, explanation: 'onnxruntime failed while running a graph.' },
  RUNTIME_RELEASED: { exit: 1, explanation: 'A session or lease was used after it had been released.' },
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof CATALOGUE;
