/** Which outputs stay without rows, as far as the options alone tell. */
import type { DatasetOptions } from './options.ts';

type Output = 'sft' | 'rl' | 'seen' | 'unseen' | 'chats' | 'triplets';

const OUTPUTS: readonly Output[] = ['sft', 'rl', 'seen', 'unseen', 'chats', 'triplets'];

/** What sources of labelled images fill. */
const IMAGES: readonly Output[] = ['sft', 'rl', 'seen', 'unseen'];

/** What sources of rows that were made elsewhere fill. */
const FILLED: Readonly<Partial<Record<DatasetOptions['source'], readonly Output[]>>> = {
  sharegpt: ['chats'],
  easyr1: ['triplets'],
  'fine-r1-eval': ['seen', 'unseen'],
};

/** By output the reason. */
export function emptyOutputs(options: DatasetOptions): Partial<Record<Output, string>> {
  const { source, sftShots, rlShots, testImages, unseenClasses, seenFraction } = options;
  const filled = FILLED[source] ?? IMAGES;
  const reason = `the source ${source} fills ${listed(filled)} only`;
  return {
    ...Object.fromEntries(OUTPUTS.filter((output) => !filled.includes(output)).map((output) => [output, reason])),
    ...(sftShots === 0 && { sft: 'sftShots is 0' }),
    ...(rlShots === 0 && { rl: 'rlShots is 0' }),
    ...(seenFraction === 1 && { unseen: 'seenFraction is 1, so that every class is seen' }),
    ...(unseenClasses === 0 && { unseen: 'unseenClasses is 0' }),
    ...(testImages === 0 && { seen: 'testImages is 0', unseen: 'testImages is 0' }),
  };
}

/** `a, b and c` */
function listed(names: readonly string[]): string {
  return names.length === 1 ? names[0]! : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
