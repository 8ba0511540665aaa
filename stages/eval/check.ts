/** Looks at the model, and at the image, the options and the scoring of every test item, before anything is asked. */
import path from 'node:path';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import type { EvalRow } from '../../src/artifacts/types.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { checkModel, weightsText } from '../../src/engine/models/qwen2_5_vl/check-model.ts';
import { processImage } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { IMAGE_MARKER } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { scoreClosedWorld } from '../../src/methods/closed-world.ts';
import { promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import type { EvalOptions } from './options.ts';

export async function checkEval(context: CheckContext<EvalOptions>): Promise<void> {
  const { model, data, prompts, modes } = context.options;
  const checked = model && (await checkModel(model.path));
  if (checked) context.found(weightsText(checked.weights));
  for (const [split, artifact] of Object.entries(data ?? {})) {
    if (!artifact) continue;
    const { rows } = await readEvalData(artifact.path);
    let longest = 0;
    const isRight = await checkRows(context, rows, `items of ${split}`, async (row) => {
      const place = `${path.join(artifact.path, 'rows.jsonl')}: row "${row.id}"`;
      if (modes.includes('closed') && row.options.length > 0) checkScoring(row, place);
      const image = await loadImage(path.join(artifact.path, row.image));
      if (!checked) return;
      const processed = processImage(image, checked.processor.images);
      for (const mode of modes) {
        const text = renderPrompt(promptOf(prompts, mode), { question: row.question, options: row.options });
        const messages = [{ role: 'user' as const, content: `${IMAGE_MARKER}${text}` }];
        const { inputIds } = checked.processor.encodeChat(messages, [processed], { addGenerationPrompt: true });
        longest = Math.max(longest, inputIds.length);
      }
    });
    const sizes = longest === 0 ? '' : ` with prompts of at most ${longest} tokens`;
    if (isRight) context.found(`${rows.length} items of ${split}${sizes}`);
  }
}

/** The label counts as right; the other options do not, at least by the strict score. */
function checkScoring({ label, options }: EvalRow, place: string): void {
  const scoreOf = (answer: string) => scoreClosedWorld({ output: `<answer>${answer}</answer>`, label, options });
  if (!scoreOf(label).strictlyCorrect) {
    throw new Fr1Error('DATA_ROW_INVALID', `${place}: the answer "${label}" does not count, although it is the label`, {
      hint: 'the label must be one of the options, once, as plain text',
    });
  }
  const wrong = options.find((option) => option !== label && scoreOf(option).strictlyCorrect);
  if (wrong !== undefined) {
    throw new Fr1Error('DATA_ROW_INVALID', `${place}: the wrong option "${wrong}" counts as "${label}"`);
  }
}
