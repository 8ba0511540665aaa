/** Checks of feeds and fetches against what a session declares, and failures of runs; shared by both runtimes. */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { didYouMean } from '../../errors/nearest.ts';
import {
  BYTES_PER_ELEMENT,
  type DType,
  type HostTensor,
  isHostTensor,
  sizeOf,
  type Tensor,
  type TensorData,
} from '../tensor.ts';
import type { ValueInfo } from './runtime.ts';

const ARRAY_OF = {
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
} as const satisfies Record<DType, unknown>;

type Tensors = Readonly<Record<string, Tensor>>;
type Fetches = Readonly<Record<string, Tensor | null>>;

/**
 * Refuses feeds and fetches that the session cannot take, naming the value, what is expected and what was given.
 *
 * @throws RUNTIME_FEED_INVALID
 */
export function checkValues(
  session: string,
  inputs: ReadonlyMap<string, ValueInfo>,
  outputs: ReadonlyMap<string, ValueInfo>,
  feeds: Tensors,
  fetches: Fetches,
): void {
  for (const [name, info] of inputs) {
    const tensor = feeds[name];
    if (tensor === undefined) throw invalid(session, `input "${name}" ${describe(info)} is missing`);
    checkTensor(session, `input "${name}"`, info, tensor);
  }
  for (const name of Object.keys(feeds)) {
    if (!inputs.has(name))
      throw invalid(session, `there is no input "${name}"`, didYouMean(name, [...inputs.keys()], 'inputs'));
  }
  const wanted = Object.entries(fetches);
  if (wanted.length === 0) throw invalid(session, 'no output is asked for');
  for (const [name, tensor] of wanted) {
    const info = outputs.get(name);
    if (info === undefined)
      throw invalid(session, `there is no output "${name}"`, didYouMean(name, [...outputs.keys()], 'outputs'));
    if (tensor !== null) checkTensor(session, `output "${name}"`, info, tensor);
  }
}

/** A tensor over a fresh buffer that holds exactly its elements. */
export function tensorOver(dtype: DType, shape: readonly number[], buffer: ArrayBufferLike): HostTensor {
  return { dtype, shape, data: new ARRAY_OF[dtype](buffer as ArrayBuffer) as TensorData } as HostTensor;
}

export function byteLengthOf(dtype: DType, shape: readonly number[]): number {
  return sizeOf(shape) * BYTES_PER_ELEMENT[dtype];
}

/** The error for a failed run; onnxruntime's message names the node, if one is to blame. */
export function runFailed(session: string, message: string): Fr1Error {
  const node = /while running (\S+) node\. Name:\s*'([^']*)'/.exec(message);
  const where = node === null ? '' : `, node "${node[2]}" (${node[1]})`;
  return new Fr1Error('RUNTIME_RUN_FAILED', `session "${session}"${where}: ${message}`);
}

function checkTensor(session: string, what: string, info: ValueInfo, tensor: Tensor): void {
  if (tensor.dtype !== info.dtype) throw invalid(session, `${what} takes ${info.dtype}, not ${tensor.dtype}`);
  // NOTE: onnxruntime reports an undeclared shape like that of a scalar; it then checks by itself.
  const fits =
    info.shape.length === 0 ||
    (tensor.shape.length === info.shape.length &&
      info.shape.every((dim, axis) => dim === -1 || dim === tensor.shape[axis]));
  if (!fits) throw invalid(session, `${what} has shape ${format(info.shape)}, not ${format(tensor.shape)}`);
  if (!isHostTensor(tensor)) {
    const bytes = byteLengthOf(tensor.dtype, tensor.shape);
    if (tensor.buffer.byteLength >= bytes) return;
    throw invalid(session, `${what} needs ${bytes} bytes, its buffer has ${tensor.buffer.byteLength}`);
  }
  if (!(tensor.data instanceof ARRAY_OF[tensor.dtype])) {
    const { name } = (tensor.data as object).constructor;
    throw invalid(session, `${what} of ${tensor.dtype} needs ${ARRAY_OF[tensor.dtype].name} data, not ${name}`);
  }
  const size = sizeOf(tensor.shape);
  if (tensor.data.length !== size) {
    throw invalid(
      session,
      `${what} of shape ${format(tensor.shape)} needs ${size} elements, not ${tensor.data.length}`,
    );
  }
}

function describe(info: ValueInfo): string {
  return `(${info.dtype} ${format(info.shape)})`;
}

function format(shape: readonly number[]): string {
  return `[${shape.map((dim) => (dim === -1 ? '?' : dim)).join(', ')}]`;
}

function invalid(session: string, message: string, hint?: string): Fr1Error {
  return new Fr1Error('RUNTIME_FEED_INVALID', `session "${session}": ${message}`, { hint });
}
