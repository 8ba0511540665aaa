/**
 * Gives an error about an option, or about a folder of the user, the place of the option or of the one that names the folder.
 * A stage knows values and paths, not the pipeline's text; this is where both are known.
 */
import path from 'node:path';
import type { ArtifactType } from '../artifacts/types.ts';
import type { LocalInput, PipelineStage } from '../config/types.ts';
import { CATALOGUE, type ErrorCode } from '../errors/catalogue.ts';
import { printPlace } from '../errors/format.ts';
import { Fr1Error } from '../errors/fr1-error.ts';

/**
 * The error with the option's place, where it is one of wrong input (exit code 2) and tells which option or which of the stage's local
 * folders is at fault: its text names a path in it, or only one folder of that type is given. A place in a data file is
 * kept; the hint then names the option. Any other error is returned as it is.
 */
export function placeInputError(
  error: unknown,
  { inputs, positionOf }: Pick<PipelineStage, 'inputs' | 'positionOf'>,
): unknown {
  if (!(error instanceof Fr1Error) || CATALOGUE[error.code].exit !== 2) return error;
  if (error.pointer !== undefined && error.at === undefined) {
    const { code, message, hint, cause, pointer } = error;
    return new Fr1Error(code, message, { hint, cause, at: positionOf(pointer) });
  }
  const given = inputs.flatMap(({ source, pointer, position }) =>
    source.kind === 'local-input' ? [{ source, pointer, position }] : [],
  );
  const texts = textsOf(error);
  const named = given.filter(({ source }) => texts.some((text) => namesPathIn(text, source)));
  const fitting = named.length > 0 ? named : given.filter(({ source }) => fits(error.code, source.type));
  // Two options may name the same folder; the first stands for both.
  const found = new Set(fitting.map(({ source }) => source.path)).size === 1 ? fitting[0] : undefined;
  if (!found) return error;
  const { message, hint, at, cause } = error;
  const option = found.pointer.slice(1).replaceAll('/', '.');
  const own = at === undefined ? '' : `the folder is given as \`${option}\` at ${printPlace(found.position)}`;
  const hints = [hint, own].filter(Boolean).join('\n');
  return new Fr1Error(error.code, message, { hint: hints || undefined, at: at ?? found.position, cause });
}

function textsOf(error: Fr1Error): string[] {
  const texts = error.at ? [error.at.file] : [];
  for (let each: unknown = error, depth = 0; each instanceof Error && depth < 8; each = each.cause, depth++) {
    texts.push(each.message);
  }
  return texts;
}

/** Whether the folder itself or something in it is named; a sibling whose name begins alike does not count. */
function namesPathIn(text: string, { path: folder }: LocalInput): boolean {
  for (let from = text.indexOf(folder); from !== -1; from = text.indexOf(folder, from + 1)) {
    const next = text[from + folder.length];
    if (next === undefined || next === path.sep || !/[\w.-]/.test(next)) return true;
  }
  return false;
}

const CHECKPOINT_CODE = /^(CHECKPOINT|SAFETENSORS|MODEL_CONFIG|TOKENIZER)_/;
const ADAPTER_CODE = /^ADAPTER_(UNREADABLE|MISMATCH)$/;
const DATA_CODE = /^(DATA|IMAGE)_/;

function fits(code: ErrorCode, type: ArtifactType): boolean {
  if (CHECKPOINT_CODE.test(code)) return type === 'checkpoint';
  if (ADAPTER_CODE.test(code)) return type === 'checkpoint' || type === 'adapter';
  return DATA_CODE.test(code) && type !== 'checkpoint' && type !== 'adapter';
}
