/**
 * ONNX models for tests, encoded by protobufjs from the field numbers of the public ONNX format: independent of the
 * engine's own writer.
 */
import protobuf from 'protobufjs';
import type { DType, HostTensor } from '../../src/engine/tensor.ts';

const SCHEMA = `
syntax = "proto3";
message AttributeProto { string name = 1; float f = 2; int64 i = 3; bytes s = 4; TensorProto t = 5; repeated float floats = 7; repeated int64 ints = 8; int32 type = 20; }
message NodeProto { repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4; repeated AttributeProto attribute = 5; string domain = 7; }
message StringStringEntryProto { string key = 1; string value = 2; }
message TensorProto { repeated int64 dims = 1; int32 data_type = 2; string name = 8; bytes raw_data = 9; repeated StringStringEntryProto external_data = 13; int32 data_location = 14; }
message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
message TensorShapeProto { repeated Dimension dim = 1; }
message TensorTypeProto { int32 elem_type = 1; TensorShapeProto shape = 2; }
message TypeProto { TensorTypeProto tensor_type = 1; }
message ValueInfoProto { string name = 1; TypeProto type = 2; }
message GraphProto { repeated NodeProto node = 1; string name = 2; repeated TensorProto initializer = 5; repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12; }
message OperatorSetIdProto { string domain = 1; int64 version = 2; }
message ModelProto { int64 ir_version = 1; GraphProto graph = 7; repeated OperatorSetIdProto opset_import = 8; }
`;

const ModelProto = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType('ModelProto');

const ELEMENT_TYPE = { float32: 1, int32: 6, int64: 7, bool: 9, float16: 10, bfloat16: 16 } as const satisfies Record<
  DType,
  number
>;

export interface TestValue {
  readonly name: string;
  readonly dtype?: DType;
  /** A text is a symbolic dimension. */
  readonly shape: readonly (number | string)[];
}

export interface TestNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly name?: string;
  readonly attributes?: Readonly<Record<string, number | readonly number[] | string>>;
}

export interface TestModel {
  readonly nodes: readonly TestNode[];
  readonly inputs: readonly TestValue[];
  readonly outputs: readonly TestValue[];
  readonly initializers?: Readonly<Record<string, HostTensor>>;
  /** Initialisers in files beside the model, as a byte range of each. */
  readonly external?: Readonly<Record<string, ExternalTensor>>;
}

export interface ExternalTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** The bytes of a model; IR version 10, opset 21. Numbers that are whole become integer attributes. */
export function onnxModel({ nodes, inputs, outputs, initializers = {}, external = {} }: TestModel): Uint8Array {
  const message = ModelProto.fromObject({
    ir_version: 10,
    opset_import: [{ domain: '', version: 21 }],
    graph: {
      name: 'test',
      node: nodes.map((node, i) => ({
        input: node.inputs,
        output: node.outputs,
        name: node.name ?? `${node.op}_${i}`,
        op_type: node.op,
        attribute: Object.entries(node.attributes ?? {}).map(([name, value]) => attribute(name, value)),
      })),
      initializer: [
        ...Object.entries(initializers).map(([name, { dtype, shape, data }]) => ({
          name,
          data_type: ELEMENT_TYPE[dtype],
          dims: shape,
          raw_data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        })),
        ...Object.entries(external).map(([name, { dtype, shape, file, offset, bytes }]) => ({
          name,
          data_type: ELEMENT_TYPE[dtype],
          dims: shape,
          data_location: 1,
          external_data: [
            { key: 'location', value: file },
            { key: 'offset', value: String(offset) },
            { key: 'length', value: String(bytes) },
          ],
        })),
      ],
      input: inputs.map(valueInfo),
      output: outputs.map(valueInfo),
    },
  });
  return ModelProto.encode(message).finish();
}

function attribute(name: string, value: number | readonly number[] | string): object {
  if (typeof value === 'string') return { name, type: 3, s: new TextEncoder().encode(value) };
  if (typeof value !== 'number') return { name, type: 7, ints: value };
  return Number.isInteger(value) ? { name, type: 2, i: value } : { name, type: 1, f: value };
}

function valueInfo({ name, dtype = 'float32', shape }: TestValue): object {
  const dim = shape.map((size) => (typeof size === 'number' ? { dim_value: size } : { dim_param: size }));
  return { name, type: { tensor_type: { elem_type: ELEMENT_TYPE[dtype], shape: { dim } } } };
}
