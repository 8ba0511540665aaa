/** How much memory a stage will take: told before it takes it, and refused where it would not fit. Host memory only. */
import { imageSize } from '../src/engine/image/load-image.ts';
import { estimateMemory, type MemoryPlan } from '../src/engine/models/qwen2_5_vl/estimate.ts';
import type { GenerationSize } from '../src/engine/models/qwen2_5_vl/memory-peaks.ts';
import { aboutImage, type Processor } from '../src/engine/models/qwen2_5_vl/processor.ts';
import { type MemoryKnobs, partsInWords, requireMemory } from '../src/engine/models/qwen2_5_vl/require-memory.ts';
import type { ImageGrid } from '../src/engine/models/qwen2_5_vl/vision-layout.ts';
import type { StageContext } from '../src/run/stage-api.ts';

/** Prompts that are looked at; of more, so many evenly spaced ones. */
const MOST_PROMPTS = 256;

/**
 * Tells what the estimate says.
 *
 * @param what does the work, e.g. `this training`
 * @throws MEMORY_SHORT
 */
export function requireStageMemory(
  context: Pick<StageContext, 'expectMemory'>,
  what: string,
  plan: MemoryPlan,
  knobs: MemoryKnobs,
): void {
  const estimate = estimateMemory(plan);
  context.expectMemory(estimate.total, partsInWords(estimate));
  requireMemory(what, estimate, knobs);
}

/** A question about one image. */
export interface Asked {
  readonly text: string;
  /** Absolute path. */
  readonly image: string;
}

/**
 * The longest of some prompts, from the headers of their images. An image that cannot be read is left out: whoever reads
 * it later names its row.
 */
export async function longestPrompt(
  questions: readonly Asked[],
  processor: Processor,
  gridOf: (size: { readonly width: number; readonly height: number }) => ImageGrid,
  signal?: AbortSignal,
): Promise<GenerationSize['prompt']> {
  const step = Math.max(1, questions.length / MOST_PROMPTS);
  let longest: GenerationSize['prompt'] = { tokens: 1, images: [] };
  for (let at = 0; at < questions.length; at += step) {
    signal?.throwIfAborted();
    const { text, image } = questions[Math.floor(at)]!;
    const size = await imageSize(image).catch(() => null);
    if (size === null) continue;
    const grid = gridOf(size);
    const messages = [{ role: 'user' as const, content: aboutImage(text) }];
    const { inputIds } = processor.encodeChat(messages, [{ grid }], { addGenerationPrompt: true });
    if (inputIds.length > longest.tokens) longest = { tokens: inputIds.length, images: [grid] };
  }
  return longest;
}
