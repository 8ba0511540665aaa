/** The options of the stage with those of the preset where they are not given. */
import type { PixelBudget } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { methodSwitches } from '../../src/methods/presets.ts';
import { SFT_PRESETS, type SftSettings } from '../../src/methods/sft-presets.ts';
import type { SftOptions } from './options.ts';

export interface ResolvedSettings extends Omit<SftSettings, 'epochs'> {
  /** null where neither the options nor the preset say. */
  readonly length: { readonly steps: number } | { readonly epochs: number } | null;
  readonly lossNormalisation: 'step' | 'micro';
}

/** What of the options is read here; artifacts are not. */
export type SettingOptions = Pick<SftOptions, 'preset' | 'set' | 'steps' | 'lossNormalisation'> &
  Partial<Pick<SftOptions, keyof SftSettings>>;

export function resolveSettings(options: SettingOptions): ResolvedSettings {
  const preset: SftSettings = SFT_PRESETS[options.preset];
  const given = <Name extends keyof SftSettings>(name: Name) => (options[name] ?? preset[name]) as SftSettings[Name];
  const epochs = given('epochs');
  return {
    length: options.steps !== undefined ? { steps: options.steps } : epochs === null ? null : { epochs },
    batchSize: given('batchSize'),
    microBatchSize: given('microBatchSize'),
    learningRate: given('learningRate'),
    schedule: given('schedule'),
    warmupSteps: given('warmupSteps'),
    weightDecay: given('weightDecay'),
    maxGradNorm: given('maxGradNorm'),
    maxTokens: given('maxTokens'),
    minPixels: given('minPixels'),
    maxPixels: given('maxPixels'),
    lossNormalisation: options.lossNormalisation ?? methodSwitches(options.set).lossNormalisation,
  };
}

/** Images are read as by the trainer of Fine-R1's first stage. */
export function pixelBudget({ minPixels, maxPixels }: Pick<SftSettings, 'minPixels' | 'maxPixels'>): PixelBudget {
  return { minPixels: minPixels ?? undefined, maxPixels: maxPixels ?? undefined, stretchesNarrow: true };
}
