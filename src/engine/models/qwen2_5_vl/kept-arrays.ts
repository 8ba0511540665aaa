/**
 * Arrays that are made once and used again: what a large array costs is less its making than the pages that it touches first and
 * the garbage collections that it brings about.
 */
export class KeptArrays {
  readonly #arrays = new Map<string, Float32Array>();

  /** An array of that name, whose elements are what they were left as. The one that was taken before is the caller's no more. */
  take(name: string, size: number): Float32Array {
    const known = this.#arrays.get(name);
    if (known !== undefined && known.length >= size) return known.subarray(0, size);
    const array = new Float32Array(size);
    this.#arrays.set(name, array);
    return array;
  }

  get byteLength(): number {
    return [...this.#arrays.values()].reduce((bytes, { byteLength }) => bytes + byteLength, 0);
  }
}
