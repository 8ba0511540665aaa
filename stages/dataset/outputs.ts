/** What every source fills alike: counts, and outputs that it has nothing for. */
import { writeDataset, writeSftData } from '../../src/artifacts/rows.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import type { DatasetOptions } from './options.ts';

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
