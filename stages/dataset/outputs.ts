/** What every source fills alike: counts, and outputs that it has nothing for. */
import { writeDataset, writeSftData } from '../../src/artifacts/rows.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import type { DatasetOptions } from './options.ts';

/** The stage's metrics. */
export interface Counts {
  readonly seenClasses: number;
  readonly unseenClasses: number;
  readonly sftImages: number;
  readonly rlImages: number;
  readonly seenTestImages: number;
  readonly unseenTestImages: number;
  readonly chats: number;
  readonly triplets: number;
  /** Images or rows that were left out: missing files, repeated images, training images that are test images too. */
  readonly leftOut: number;
}

export const NO_COUNTS: Counts = {
  seenClasses: 0,
  unseenClasses: 0,
  sftImages: 0,
  rlImages: 0,
  seenTestImages: 0,
  unseenTestImages: 0,
  chats: 0,
  triplets: 0,
  leftOut: 0,
};

type Context = StageContext<DatasetOptions>;

/** An output without rows: what reads it says that there is nothing in it. */
export async function writeNoChats({ outputs }: Context): Promise<void> {
  await writeSftData(outputs['chats']!, []);
}

export async function writeNoTriplets({ outputs }: Context, name: string, superCategory: string): Promise<void> {
  await writeDataset(outputs['triplets']!, { name, superCategory, split: 'train', classes: [] }, []);
}

export async function writeNoTraining({ outputs }: Context, name: string, superCategory: string): Promise<void> {
  for (const output of ['sft', 'rl']) {
    await writeDataset(outputs[output]!, { name, superCategory, split: 'train', classes: [] }, []);
  }
}

export async function writeNoTests({ outputs }: Context, name: string, superCategory: string): Promise<void> {
  for (const split of ['seen', 'unseen'] as const) {
    await writeDataset(outputs[split]!, { name, superCategory, split, classes: [] }, []);
  }
}
