/** Looks at a model folder without reading weights or opening a session: files, shapes, tokenizer, template. */
import { Fr1Error } from '../../../errors/fr1-error.ts';
import { openModelFolder } from '../../adapters/model-folder.ts';
import { openProcessor, type Processor } from './processor.ts';

/** What answers are written with; each must survive the tokenizer, or no answer can be read. */
const TAGS = ['<think>', '</think>', '<answer>', '</answer>'] as const;

export interface CheckedModel {
  readonly processor: Processor;
  readonly weights: number;
}

/**
 * @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, SAFETENSORS_INVALID, SAFETENSORS_TRUNCATED
 * @throws ADAPTER_UNREADABLE, ADAPTER_MISMATCH
 * @throws TOKENIZER_INVALID also when the tokenizer does not give the tags of answers back
 */
export async function checkModel(dir: string): Promise<CheckedModel> {
  const { base } = openModelFolder(dir);
  const processor = await openProcessor(base.dir);
  const text = `${TAGS[0]}a${TAGS[1]}${TAGS[2]}b${TAGS[3]}`;
  const back = processor.decode(processor.encode(text));
  if (back !== text) {
    throw new Fr1Error('TOKENIZER_INVALID', `the tokenizer of ${dir} turns ${text} into ${back}`, {
      hint: 'answers are read from these tags: the tokenizer must give them back as they are',
    });
  }
  const weights = base.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return { processor, weights };
}

/** `2.2 M weights`. */
export function weightsText(weights: number): string {
  const [divisor, unit] = weights >= 1e9 ? [1e9, 'G'] : [1e6, 'M'];
  return `${(weights / divisor).toFixed(1)} ${unit} weights`;
}
