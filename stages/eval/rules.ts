/** The rules of an evaluation: those of the set, with single switches put over them. */
import { type MethodSwitches, methodSwitches } from '../../src/methods/presets.ts';
import type { EvalOptions } from './options.ts';

export interface EvaluationRules
  extends Pick<MethodSwitches, 'optionOrder' | 'standardFrom' | 'openFallback' | 'emptyCarLabel'> {
  /** null: the model folder's. */
  readonly minPixels: number | null;
  readonly maxPixels: number | null;
}

/** The pixel budget of the released evaluation, which is that of Qwen2.5-VL's processor. */
const REFERENCE_PIXELS = { minPixels: 3136, maxPixels: 12_845_056 } as const;

export function rulesOf(options: EvalOptions): EvaluationRules {
  const { set, optionOrder, standardFrom, openFallback, emptyCarLabel } = options;
  const switches = methodSwitches(set, {
    ...(optionOrder && { optionOrder }),
    ...(standardFrom && { standardFrom }),
    ...(openFallback && { openFallback }),
    ...(emptyCarLabel && { emptyCarLabel }),
  });
  const pixels = set === 'reference' ? REFERENCE_PIXELS : { minPixels: null, maxPixels: null };
  return {
    optionOrder: switches.optionOrder,
    standardFrom: switches.standardFrom,
    openFallback: switches.openFallback,
    emptyCarLabel: switches.emptyCarLabel,
    minPixels: options.minPixels ?? pixels.minPixels,
    maxPixels: options.maxPixels ?? pixels.maxPixels,
  };
}
