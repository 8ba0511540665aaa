/** Calls the source that the options name and tells what it made. */

import type { StageContext, StageResult } from '../../src/run/stage-api.ts';
import { importChats } from './chats.ts';
import type { Counts } from './counts.ts';
import { importEvalFiles } from './eval-files.ts';
import { makeFromImages } from './labelled-images.ts';
import type { DatasetOptions } from './options.ts';
import { makeProceduralBirds } from './procedural-birds.ts';
import { importTriplets } from './triplet-files.ts';

export async function runDataset(context: StageContext<DatasetOptions>): Promise<StageResult> {
  const counts = await made(context);
  context.log(describe(counts));
  // Counts that mean nothing for the source are zero and not shown.
  const shown = Object.entries(counts).filter(([name, value]) => value > 0 || name === 'leftOut');
  return { metrics: Object.fromEntries(shown.map(([name, value]) => [name, { value }])) };
}

function made(context: StageContext<DatasetOptions>): Promise<Counts> {
  switch (context.options.source) {
    case 'procedural-birds':
      return makeProceduralBirds(context);
    case 'sharegpt':
      return importChats(context);
    case 'easyr1':
      return importTriplets(context);
    case 'fine-r1-eval':
      return importEvalFiles(context);
    default:
      return makeFromImages(context);
  }
}

function describe(counts: Counts): string {
  const parts = [
    counts.seenClasses + counts.unseenClasses > 0 &&
      `${counts.seenClasses} seen and ${counts.unseenClasses} unseen classes`,
    counts.sftImages + counts.rlImages > 0 && `${counts.sftImages} + ${counts.rlImages} training images`,
    counts.seenTestImages + counts.unseenTestImages > 0 &&
      `${counts.seenTestImages} + ${counts.unseenTestImages} test images`,
    counts.chats > 0 && `${counts.chats} chats`,
    counts.triplets > 0 && `${counts.triplets} triplets`,
    counts.leftOut > 0 && `${counts.leftOut} left out`,
  ];
  return parts.filter(Boolean).join(', ');
}
