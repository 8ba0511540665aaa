/** Makes anchor, positive and negative out of labelled images: one triplet per image. */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem } from '../../src/run/stage-api.ts';
import type { TripletsOptions } from './options.ts';

export const tripletsStage = defineStage<TripletsOptions>({
  kind: 'triplets',
  summary: 'Gives every image a positive of its own class and a negative of another.',
  version: 5,
  schema: loadStageSchema(import.meta.url),
  outputs: { data: { type: 'triplet-data', description: 'one triplet per image' } },
  metrics: ['triplets', 'classes'],
  resources: ({ negative }) => ({ device: negative === 'embedding' }),
  validate,
  async check(context) {
    const { checkTriplets } = await import('./check.ts');
    await checkTriplets(context);
  },
  async run(context) {
    const { runTriplets } = await import('./run.ts');
    return runTriplets(context);
  },
});

function validate({ negative, hierarchy, model }: TripletsOptions): OptionProblem[] {
  const problems: OptionProblem[] = [];
  if (negative === 'embedding' && model === undefined) {
    problems.push({ pointer: '/negative', message: 'negative: embedding needs "model", the checkpoint that looks' });
  }
  if (negative !== 'embedding' && model !== undefined) {
    problems.push({ pointer: '/model', message: 'model is asked for negative: embedding only' });
  }
  if (negative !== 'hierarchy' && hierarchy !== undefined) {
    problems.push({ pointer: '/hierarchy', message: 'hierarchy is read for negative: hierarchy only' });
  }
  return problems;
}
