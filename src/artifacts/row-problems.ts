/** Collects what is wrong with the rows of a file, so that one pass tells of all of them. */
import { Fr1Error } from '../errors/fr1-error.ts';

/** Problems told one by one; a data set that is wrong throughout would push others out of sight. */
export const SHOWN_PROBLEMS = 5;

export class RowProblems {
  readonly #shown: Fr1Error[] = [];
  #count = 0;

  add(problem: Fr1Error): void {
    if (++this.#count <= SHOWN_PROBLEMS) this.#shown.push(problem);
  }

  /** @throws the first problem, with the next ones as its `others` and how many there are besides in its hint */
  throwIfAny(): void {
    const [first, ...others] = this.#shown;
    if (first === undefined) return;
    if (others.length === 0) throw first;
    const { code, message, at, cause } = first;
    const rest = this.#count - 1;
    const more = rest === others.length ? `${rest}` : `${rest} (the first ${others.length} are told by \`fr1 check\`)`;
    const hint = [first.hint, `further rows of the file with problems: ${more}`].filter(Boolean).join('\n');
    throw new Fr1Error(code, message, { hint, at, cause, others });
  }
}
