/** Columns of the MAT-files that datasets come with. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { type MatFile, type MatValue, readMatFile } from './mat-file.ts';

/** A MAT-file whose variables are asked for by name and kind. */
export class MatLists {
  readonly #file: string;
  readonly #variables: MatFile;

  private constructor(file: string, variables: MatFile) {
    this.#file = file;
    this.#variables = variables;
  }

  /** @throws DATA_UNREADABLE */
  static async open(file: string): Promise<MatLists> {
    return new MatLists(file, await readMatFile(file));
  }

  /** @throws DATA_UNREADABLE when there is no such variable of numbers */
  numbers(name: string): readonly number[] {
    const value = this.#variables[name];
    if (value?.kind !== 'numbers') throw this.#lacks(name, 'numbers');
    return value.values;
  }

  /** @throws DATA_UNREADABLE when there is no such cell array of texts */
  texts(name: string): readonly string[] {
    const value = this.#variables[name];
    if (value?.kind !== 'cells') throw this.#lacks(name, 'texts');
    return value.cells.map((cell) => {
      // Cells of cells: some lists wrap each text once more.
      const inner = cell.kind === 'cells' ? cell.cells[0] : cell;
      if (inner?.kind !== 'text') throw this.#lacks(name, 'texts');
      return inner.text;
    });
  }

  /** @throws DATA_UNREADABLE when there is no such struct array */
  structs(name: string): readonly Readonly<Record<string, MatValue>>[] {
    const value = this.#variables[name];
    if (value?.kind !== 'structs') throw this.#lacks(name, 'records');
    return value.elements;
  }

  /** An error about one element, counted from 1. */
  rowError(name: string, index: number, problem: string): Fr1Error {
    return new Fr1Error('DATA_ROW_INVALID', `${this.#file}: row ${index + 1} of "${name}": ${problem}`);
  }

  #lacks(name: string, what: string): Fr1Error {
    const has = Object.keys(this.#variables).join(', ');
    return new Fr1Error('DATA_UNREADABLE', `${this.#file} has no variable "${name}" of ${what}; it has: ${has}`);
  }
}
