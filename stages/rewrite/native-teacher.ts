/** A local checkpoint as teacher. Calls that wait together are answered in one batch; what each says depends on it alone. */
import { PLAIN_SAMPLING } from '../../src/engine/generate/plain-sampling.ts';
import type { GenerationRequest } from '../../src/engine/generate/types.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { processImage } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { openVisionLanguageModel } from '../../src/engine/models/qwen2_5_vl/open-model.ts';
import { IMAGE_MARKER } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import type { SessionSource } from '../../src/engine/program.ts';
import type { Artifact } from '../../src/run/stage-api.ts';
import type { Teacher, TeacherCall, TeacherReply } from './teacher.ts';

/** Calls answered at a time. */
export const TEACHER_BATCH = 8;

interface Waiting {
  readonly call: TeacherCall;
  resolve(reply: TeacherReply): void;
  reject(error: unknown): void;
}

/** @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, TOKENIZER_INVALID */
export async function nativeTeacher(
  source: SessionSource,
  checkpoint: Artifact,
  signal: AbortSignal,
): Promise<Teacher> {
  const { processor, generator, release } = await openVisionLanguageModel(source, checkpoint.path);
  const queue: Waiting[] = [];
  let isRunning = false;

  const answer = async (calls: readonly TeacherCall[]): Promise<TeacherReply[]> => {
    const requests: GenerationRequest[] = [];
    for (const { prompt, image, seed } of calls) {
      const processed = processImage(await loadImage(image.path), processor.images);
      const messages = [{ role: 'user' as const, content: `${IMAGE_MARKER}${prompt}` }];
      const { inputIds } = processor.encodeChat(messages, [processed], { addGenerationPrompt: true });
      requests.push({ inputIds, images: [processed], seed });
    }
    const { maxNewTokens, temperature } = calls[0]!;
    const completions = await generator.generate(
      requests,
      {
        maxNewTokens,
        ...PLAIN_SAMPLING,
        temperature,
        stopTokenIds: processor.tokens.eos,
        bannedTokenIds: processor.bannedTokens,
      },
      { signal },
    );
    return completions.map(([completion], i) => ({
      text: processor.decode(completion!.tokenIds, { skipSpecialTokens: true }),
      inputTokens: requests[i]!.inputIds.length,
      outputTokens: completion!.tokenIds.length,
    }));
  };
  const drain = async () => {
    isRunning = true;
    while (queue.length > 0) {
      const batch = queue.splice(0, TEACHER_BATCH);
      try {
        const replies = await answer(batch.map(({ call }) => call));
        batch.forEach(({ resolve }, i) => {
          resolve(replies[i]!);
        });
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    isRunning = false;
  };
  return {
    identity: `native ${checkpoint.digest}`,
    concurrency: TEACHER_BATCH,
    ask: (call) =>
      new Promise((resolve, reject) => {
        queue.push({ call, resolve, reject });
        // All rows in work get to ask before a batch is closed.
        if (!isRunning) setImmediate(() => void (isRunning || drain()));
      }),
    release,
  };
}
