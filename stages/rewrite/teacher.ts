/** A teacher that looks at an image and writes a text, and the books kept about what it was asked. */

export interface TeacherCall {
  /** Which text of which row it is, e.g. `row-3 caption 1`; part of what makes a call itself. */
  readonly name: string;
  readonly prompt: string;
  readonly image: TeacherImage;
  /** Fixes the sampling, as far as the teacher can be fixed. */
  readonly seed: number;
  readonly maxNewTokens: number;
  readonly temperature: number;
}

export interface TeacherImage {
  /** Absolute. */
  readonly path: string;
  /** Hash of the bytes, hex. */
  readonly sha256: string;
}

export interface TeacherReply {
  readonly text: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface Teacher {
  /** Part of what makes a call itself: the same call to another model is another call. */
  readonly identity: string;
  /** Rows that may be in work at a time. */
  readonly concurrency: number;
  /**
   * @throws TEACHER_UNREACHABLE when it does not answer however often it is asked
   * @throws TEACHER_REFUSED when it will never answer such a call: a wrong key, model or address
   * @throws RowRefused when it will not answer this call
   */
  ask(call: TeacherCall, signal: AbortSignal): Promise<TeacherReply>;
  release(): Promise<void>;
}

/** The teacher will not answer this one call, e.g. because of its content; the row is rejected with the message. */
export class RowRefused extends Error {
  override readonly name = 'RowRefused';
}
