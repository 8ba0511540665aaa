/** The one error class of fr1. Codes and their explanations: catalogue.ts; printing: format.ts. */
import type { ErrorCode } from './catalogue.ts';

/** A place in a text file; lines and columns count from 1 in UTF-16 units, `endCol` is exclusive. */
export interface SourcePosition {
  /** The file as the user named it, or `command line`. */
  readonly file: string;
  readonly line: number;
  readonly col: number;
  readonly endCol?: number;
  /** The whole line, for the code frame; without it no frame is printed. */
  readonly lineText?: string;
}

export interface Fr1ErrorOptions {
  /** What the user can do about it. */
  readonly hint?: string | undefined;
  readonly at?: SourcePosition | undefined;
  /** JSON pointer to what is wrong in the settings that were passed on; a stage makes it one into its options. */
  readonly pointer?: string | undefined;
  readonly cause?: unknown;
  /** More of the same kind that the same pass found; what tells all problems tells these too. */
  readonly others?: readonly Fr1Error[] | undefined;
}

export class Fr1Error extends Error {
  override readonly name = 'Fr1Error';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly at: SourcePosition | undefined;
  readonly pointer: string | undefined;
  readonly others: readonly Fr1Error[];

  constructor(code: ErrorCode, message: string, options: Fr1ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.at = options.at;
    this.pointer = options.pointer;
    this.others = options.others ?? [];
  }
}

/** Several problems found in one pass, in file order. */
export class Fr1Errors extends Error {
  override readonly name = 'Fr1Errors';
  readonly errors: readonly Fr1Error[];

  constructor(errors: readonly Fr1Error[]) {
    super(errors.map((error) => `${error.code}: ${error.message}`).join('\n'));
    this.errors = errors;
  }
}
