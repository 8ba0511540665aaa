/** The loss on chats that are not learnt, and the weights that were best on them. */
import { existsSync } from 'node:fs';
import { cp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Batch } from '../../src/engine/models/qwen2_5_vl/batch.ts';
import type { PlannedBatch } from '../../src/engine/recipes/supervised.ts';

/** Log-probabilities of a batch's targets. */
export type LogProbs = (batch: Batch, signal: AbortSignal) => Promise<Float32Array>;

/** Mean cross-entropy of all target tokens of the batches in nats. */
export async function validationLoss(
  batches: readonly PlannedBatch[],
  logProbs: LogProbs,
  signal: AbortSignal,
): Promise<number> {
  let sum = 0;
  let count = 0;
  for (const planned of batches) {
    signal.throwIfAborted();
    const values = await logProbs(await planned.build(), signal);
    for (const value of values) sum -= value;
    count += values.length;
  }
  return sum / count;
}

interface BestRecord {
  readonly step: number;
  readonly loss: number;
}

/** The best model so far, kept in the state folder, where it survives a crash. */
export class BestModel {
  readonly #folder: string;
  #best: BestRecord | null;

  private constructor(folder: string, best: BestRecord | null) {
    this.#folder = folder;
    this.#best = best;
  }

  static async open(state: string): Promise<BestModel> {
    const folder = path.join(state, 'best');
    const file = path.join(folder, 'best.json');
    const known = existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as BestRecord) : null;
    return new BestModel(folder, known);
  }

  get best(): BestRecord | null {
    return this.#best;
  }

  /** Keeps the model where it is better than any before; equal losses keep the earlier. */
  async offer(record: BestRecord, save: (folder: string) => Promise<void>): Promise<void> {
    if (this.#best !== null && record.loss >= this.#best.loss) return;
    const fresh = `${this.#folder}.new`;
    await rm(fresh, { recursive: true, force: true });
    await save(path.join(fresh, 'model'));
    await writeFile(path.join(fresh, 'best.json'), JSON.stringify(record));
    await rm(this.#folder, { recursive: true, force: true });
    await rename(fresh, this.#folder);
    this.#best = record;
  }

  /** Copies the best model into a folder. */
  async copyTo(folder: string): Promise<void> {
    await cp(path.join(this.#folder, 'model'), folder, { recursive: true });
  }
}
