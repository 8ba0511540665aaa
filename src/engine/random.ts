/**
 * Counter-based random numbers: a stream is fixed by its keys alone, so resuming or reordering work does not shift it.
 *
 * @see Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox4x32-10)
 */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** High 32 bits of the product of two unsigned 32-bit integers. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const mid1 = aHigh * bLow + (low >>> 16);
  const mid2 = aLow * bHigh + (mid1 & 0xffff);
  return (aHigh * bHigh + Math.floor(mid1 / 65536) + Math.floor(mid2 / 65536)) >>> 0;
}

/** One Philox4x32-10 block: four 32-bit words from a 128-bit counter and a 64-bit key. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, c0);
    const low0 = Math.imul(M0, c0) >>> 0;
    const high1 = mulHigh(M1, c2);
    const low1 = Math.imul(M1, c2) >>> 0;
    const next0 = (high1 ^ c1 ^ k0) >>> 0;
    const next2 = (high0 ^ c3 ^ k1) >>> 0;
    c0 = next0;
    c1 = low1;
    c2 = next2;
    c3 = low0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** FNV-1a with a final mix, of any mixture of numbers and strings; used only to spread keys. */
function hashKeys(keys: readonly (number | string)[], basis: number): number {
  let hash = basis >>> 0;
  const byte = (value: number) => {
    hash = Math.imul(hash ^ value, 0x01000193) >>> 0;
  };
  for (const key of keys) {
    const text = typeof key === 'number' ? `#${key}` : `$${key}`;
    for (let i = 0; i < text.length; i++) {
      byte(text.charCodeAt(i) & 255);
      byte(text.charCodeAt(i) >>> 8);
    }
    byte(0xff);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35) >>> 0;
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A stream of random numbers that depends only on its keys, e.g. `new RandomStream(seed, 'rollout', step, row)`. */
export class RandomStream {
  readonly #key: readonly [number, number];
  readonly #nonce: readonly [number, number];
  #block = 0;
  #words: readonly number[] = [];
  #next = 4;

  constructor(...keys: readonly (number | string)[]) {
    this.#key = [hashKeys(keys, 0x811c9dc5), hashKeys(keys, 0x2545f491)];
    this.#nonce = [hashKeys(keys, 0x9e3779b1), hashKeys(keys, 0x6a09e667)];
  }

  /** Uniform integer in [0, 2^32). */
  uint32(): number {
    if (this.#next === 4) {
      this.#words = philox([this.#block >>> 0, Math.floor(this.#block / 2 ** 32), ...this.#nonce], this.#key);
      this.#block++;
      this.#next = 0;
    }
    return this.#words[this.#next++]!;
  }

  /** Uniform in [0, 1) with 53 random bits. */
  uniform(): number {
    return ((this.uint32() >>> 5) * 67108864 + (this.uint32() >>> 6)) / 9007199254740992;
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** Uniform integer in [0, bound). */
  integer(bound: number): number {
    return Math.floor(this.uniform() * bound);
  }

  /** Standard normal (Box-Muller). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  choice<T>(items: readonly T[]): T {
    return items[this.integer(items.length)]!;
  }

  /** A shuffled copy (Fisher-Yates). */
  shuffled<T>(items: readonly T[]): T[] {
    const copy = [...items];
    for (let i = copy.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [copy[i], copy[j]] = [copy[j]!, copy[i]!];
    }
    return copy;
  }
}
