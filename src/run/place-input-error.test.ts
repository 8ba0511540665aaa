import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ArtifactType } from '../artifacts/types.ts';
import type { StageInput } from '../config/types.ts';
import type { ErrorCode } from '../errors/catalogue.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { placeInputError } from './place-input-error.ts';

const MODEL = path.resolve('models', 'bird');
const DATA = path.resolve('data', 'birds');

function local(pointer: string, folder: string, type: ArtifactType, line: number): StageInput {
  const position = { file: 'p.yaml', line, col: 14 };
  return { pointer, source: { kind: 'local-input', path: folder, written: folder, type }, position };
}

const model = local('/model', MODEL, 'checkpoint', 3);
const seen = local('/data/seen', path.join(DATA, 'seen'), 'eval-data', 4);
const unseen = local('/data/unseen', path.join(DATA, 'unseen'), 'eval-data', 5);
const produced: StageInput = {
  pointer: '/model',
  source: { kind: 'artifact-ref', stage: 'sft', output: 'model', type: 'checkpoint' },
  position: { file: 'p.yaml', line: 9, col: 1 },
};

const place = (error: unknown, inputs: readonly StageInput[]) =>
  placeInputError(error, { inputs, positionOf: (pointer) => ({ file: pointer, line: 12, col: 3 }) });
const lineOf = (error: Fr1Error, inputs: readonly StageInput[]) => (place(error, inputs) as Fr1Error).at?.line;
const error = (code: ErrorCode, message: string, cause?: unknown) => new Fr1Error(code, message, { cause });

describe('placeInputError()', () => {
  it('gives the place of the option whose folder the message names', () => {
    const image = path.join(DATA, 'unseen', 'images', '1.png');
    expect(lineOf(error('IMAGE_UNREADABLE', `row "1" (${image}): broken`), [model, seen, unseen])).toBe(5);
    expect(lineOf(error('CHECKPOINT_MISMATCH', `the weights of ${MODEL} are others`), [model, seen])).toBe(3);
  });

  it('finds the folder in a cause', () => {
    const cause = new Error(`EACCES: ${path.join(DATA, 'seen', 'rows.jsonl')}`);
    expect(lineOf(error('DATA_UNREADABLE', 'cannot read the rows', cause), [model, seen, unseen])).toBe(4);
  });

  it('does not take a folder for another whose name begins alike', () => {
    const sibling = local('/teacher', `${MODEL}-large`, 'checkpoint', 8);
    expect(lineOf(error('SAFETENSORS_TRUNCATED', `${MODEL}-large is cut off`), [model, sibling])).toBe(8);
  });

  it('takes the only folder of a type that fits the code where no path is named', () => {
    expect(lineOf(error('TOKENIZER_INVALID', 'no eos token'), [seen, model])).toBe(3);
    expect(lineOf(error('DATA_INSUFFICIENT', 'too few classes'), [model, unseen])).toBe(5);
    expect(lineOf(error('DATA_INSUFFICIENT', 'too few classes'), [model, seen, unseen])).toBeUndefined();
  });

  it('keeps a place in a data file, and names the option in the hint', () => {
    const at = { file: path.join(DATA, 'seen', 'rows.jsonl'), line: 7, col: 1 };
    const placed = place(new Fr1Error('DATA_ROW_INVALID', 'row "7"', { at, hint: 'mend it' }), [seen, unseen]);
    expect(placed).toMatchObject({ at, hint: 'mend it\nthe folder is given as `data.seen` at p.yaml:4:14' });
  });

  it('takes the option that the error points to, whatever folders there are', () => {
    const given = new Fr1Error('ADAPTER_TARGET_UNKNOWN', 'no layer', {
      pointer: '/adapter/targetModules/1',
      hint: 'h',
    });
    expect(place(given, [model])).toMatchObject({ at: { file: '/adapter/targetModules/1', line: 12 }, hint: 'h' });
  });

  it.each([
    ['an error that is no fault of the input', error('RUNTIME_RUN_FAILED', `${MODEL} failed`)],
    ['an error of another kind', new TypeError(`${MODEL} failed`)],
  ])('returns %s as it is', (_, given) => {
    expect(place(given, [model])).toBe(given);
  });

  it('returns an error about the output of another stage as it is', () => {
    const given = error('CHECKPOINT_MISMATCH', 'the weights are others');
    expect(place(given, [produced])).toBe(given);
  });
});
