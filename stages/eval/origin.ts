/** How answers came about that are scored here: what the model was asked and how it decoded. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { readEvaluationInfo } from '../../src/artifacts/predictions.ts';
import type { EvaluationInfo } from '../../src/artifacts/types.ts';
import { promptOf } from '../../src/methods/prompts.ts';
import type { Artifact } from '../../src/run/stage-api.ts';
import type { EvaluatedModel } from './evaluate.ts';
import type { Mode } from './items.ts';
import type { EvalOptions } from './options.ts';
import type { EvaluationRules } from './rules.ts';

type Rules = EvaluationInfo['rules'];

/** The part of the rules that scoring does not choose. */
export type AskedRules = Pick<
  Rules,
  | 'method'
  | 'prompts'
  | 'optionOrder'
  | 'optionSeed'
  | 'maxNewTokens'
  | 'temperature'
  | 'topP'
  | 'topK'
  | 'repetitionPenalty'
  | 'minPixels'
  | 'maxPixels'
>;

export interface Origin {
  readonly asked: AskedRules;
  /** Digest of the model, or of the answers where their model is unknown. */
  readonly model: string;
}

/** Of answers that a model gives here. */
export function originOfModel(
  options: EvalOptions,
  modes: readonly Mode[],
  rules: EvaluationRules,
  decoding: EvaluatedModel['sampling'],
): Origin {
  const { optionOrder, minPixels, maxPixels } = rules;
  const { optionSeed, maxNewTokens, prompts } = options;
  return {
    asked: {
      prompts: Object.fromEntries(modes.map((mode) => [mode, promptOf(prompts, mode)])),
      ...{ optionOrder, optionSeed, maxNewTokens, ...decoding, minPixels, maxPixels },
    },
    model: options.model!.digest,
  };
}

/**
 * Of answers that exist already. Predictions tell; of Fine-R1's result files it is known that its evaluation shows the options
 * as its lists have them.
 *
 * @throws DATA_UNREADABLE
 */
export async function originOfAnswers(outputs: Artifact, modes: readonly Mode[], optionSeed: number): Promise<Origin> {
  if (isPredictions(outputs)) {
    const { rules, model } = await readEvaluationInfo(outputs.path);
    const { method, prompts, optionOrder, maxNewTokens, temperature, topP, topK, repetitionPenalty } = rules;
    const { minPixels = null, maxPixels = null } = rules;
    const asked = {
      prompts: Object.fromEntries(modes.map((mode) => [mode, prompts[mode] ?? 'unknown'])),
      ...{ optionOrder, optionSeed: rules.optionSeed, maxNewTokens, temperature, topP, topK, repetitionPenalty },
      ...{ minPixels, maxPixels },
    };
    return { asked: method === undefined ? asked : { method, ...asked }, model };
  }
  const unknown = { maxNewTokens: null, temperature: null, topP: null, topK: null, repetitionPenalty: null } as const;
  return {
    asked: {
      prompts: Object.fromEntries(modes.map((mode) => [mode, 'unknown'])),
      ...{ optionOrder: 'as-shipped', optionSeed, ...unknown, minPixels: null, maxPixels: null },
    },
    model: outputs.digest,
  };
}

/** Whether answers are predictions of another evaluation, and not result files. */
export function isPredictions({ type, path: folder }: Artifact): boolean {
  return type === 'predictions' || existsSync(path.join(folder, 'rows.jsonl'));
}
