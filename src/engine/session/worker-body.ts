/**
 * The program of the worker thread of worker-runtime.ts, as text: it runs the same from the TypeScript sources, from the
 * compiled files and under a test runner, none of which then has to find a worker file.
 *
 * workerData: { package } is the path of onnxruntime-node's main file. Messages in: { id, op: 'create' | 'run' |
 * 'release', ... }; messages out: { id, value } or { id, error }.
 */

/** A tensor between the threads; its buffer is transferred. */
export interface WireTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly buffer: ArrayBuffer;
}

export interface WireValue {
  readonly name: string;
  readonly dtype: string;
  /** A text is a symbolic dimension. */
  readonly shape: readonly (number | string)[];
}

export type WireRequest =
  | { readonly op: 'create'; readonly model: Uint8Array; readonly options: object }
  | {
      readonly op: 'run';
      readonly session: number;
      readonly feeds: Readonly<Record<string, WireTensor>>;
      readonly fetches: readonly string[];
    }
  | { readonly op: 'release'; readonly session: number };

export interface WireCreated {
  readonly session: number;
  readonly inputs: readonly WireValue[];
  readonly outputs: readonly WireValue[];
}

export interface WireReply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

export const WORKER_BODY = `
'use strict';
const { parentPort, workerData } = require('node:worker_threads');
const { InferenceSession, Tensor } = require(workerData.package);

const ARRAY_OF = {
  float32: Float32Array,
  float16: Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
};
const sessions = new Map();
let nextSession = 1;

const describe = ({ name, isTensor, type, shape }) => ({ name, dtype: isTensor ? type : 'no tensor', shape: isTensor ? shape : [] });

const ops = {
  async create({ model, options }) {
    const session = await InferenceSession.create(model, options);
    sessions.set(nextSession, session);
    return {
      value: {
        session: nextSession++,
        inputs: session.inputMetadata.map(describe),
        outputs: session.outputMetadata.map(describe),
      },
      transfer: [],
    };
  },
  async run({ session, feeds, fetches }) {
    const tensors = {};
    for (const [name, { dtype, shape, buffer }] of Object.entries(feeds)) {
      tensors[name] = new Tensor(dtype, new ARRAY_OF[dtype](buffer), shape);
    }
    const results = await sessions.get(session).run(tensors, fetches);
    const value = {};
    const transfer = [];
    for (const name of fetches) {
      const { type, dims, data } = results[name];
      const whole = data.byteOffset === 0 && data.byteLength === data.buffer.byteLength;
      const buffer = whole ? data.buffer : data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
      value[name] = { dtype: type, shape: [...dims], buffer };
      transfer.push(buffer);
    }
    return { value, transfer };
  },
  async release({ session }) {
    await sessions.get(session).release();
    sessions.delete(session);
    return { value: null, transfer: [] };
  },
};

let last = Promise.resolve();
parentPort.on('message', (request) => {
  last = last.then(async () => {
    try {
      const { value, transfer } = await ops[request.op](request);
      parentPort.postMessage({ id: request.id, value }, transfer);
    } catch (error) {
      parentPort.postMessage({ id: request.id, error: String(error instanceof Error ? error.message : error) });
    }
  });
});
`;
