/** What a folder lacks to be a text model of transformers.js, before it is opened. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';

/** @throws CHECKPOINT_UNREADABLE naming the files that are missing */
export function requireTextModel(folder: string, example: string): void {
  const has = (file: string) => existsSync(path.join(folder, file));
  const missing = ['config.json', 'tokenizer.json', 'tokenizer_config.json'].filter((file) => !has(file));
  if (!has('onnx/model.onnx') && !has('onnx/text_model.onnx')) missing.push('onnx/model.onnx or onnx/text_model.onnx');
  if (missing.length === 0) return;
  const message = `${folder} is no text model of transformers.js: ${missing.join(', ')} missing`;
  throw new Fr1Error('CHECKPOINT_UNREADABLE', message, { hint: `${example} on the Hugging Face hub shows the layout` });
}
