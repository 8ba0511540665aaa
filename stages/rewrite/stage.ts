/** Turns labelled images into chats for fine-tuning: question, chain of thought, answer. The teachers have files of their own. */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem } from '../../src/run/stage-api.ts';
import { DEFAULTS } from './defaults.ts';
import type { RewriteOptions } from './options.ts';

export const rewriteStage = defineStage<RewriteOptions>({
  kind: 'rewrite',
  summary: 'Writes a checked chain of thought and an answer for every labelled image.',
  version: 3,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    data: { type: 'sft-data', description: 'accepted chats; rejected.jsonl tells what was left out and why' },
  },
  metrics: ['accepted', 'rejected', 'resampled', 'calls', 'rememberedCalls', 'inputTokens', 'outputTokens', 'cost'],
  cosmeticOptions: ['requests'],
  switches: ({ teacher, ...options }): Record<string, string> => {
    if (teacher.kind === 'attributes') return {};
    const { candidateOrder, conceptSelection } = { ...DEFAULTS, ...options };
    return { candidateOrder, conceptSelection: conceptSelection?.by ?? 'words' };
  },
  resources: ({ teacher }) => ({ device: teacher.kind === 'native' }),
  validate,
  async check(context) {
    const { checkRewrite } = await import('./check.ts');
    await checkRewrite(context);
  },
  async run(context) {
    const { runRewrite } = await import('./run.ts');
    return runRewrite(context);
  },
});

function validate({ teacher, ...options }: RewriteOptions): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const { kind } = teacher;
  const needed = kind === 'openai' ? 'model' : kind === 'native' ? 'checkpoint' : undefined;
  if (needed !== undefined && teacher[needed] === undefined) {
    problems.push({ pointer: '/teacher', message: `a teacher of kind ${kind} needs "${needed}"` });
  }
  const meantFor = {
    baseUrl: ['openai'],
    model: ['openai'],
    apiKeyEnv: ['openai'],
    tokenLimit: ['openai'],
    leaveOut: ['openai'],
    checkpoint: ['native'],
    maxNewTokens: ['openai', 'native'],
    temperature: ['openai', 'native'],
  } as const satisfies Partial<Record<keyof RewriteOptions['teacher'], readonly string[]>>;
  for (const [name, kinds] of Object.entries(meantFor)) {
    if (teacher[name as keyof typeof meantFor] === undefined || (kinds as readonly string[]).includes(kind)) continue;
    problems.push({ pointer: `/teacher/${name}`, message: `"${name}" means nothing for a teacher of kind ${kind}` });
  }
  if (teacher.temperature !== undefined && teacher.leaveOut?.includes('temperature')) {
    problems.push({ pointer: '/teacher/temperature', message: '"temperature" is left out of requests by leaveOut' });
  }
  if (teacher.maxNewTokens !== undefined && teacher.tokenLimit === 'none') {
    problems.push({ pointer: '/teacher/maxNewTokens', message: 'tokenLimit: none sends no limit of tokens' });
  }
  if (kind === 'attributes') {
    for (const name of [
      ...(Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[]),
      'conceptSelection',
      'reuse',
    ] as const) {
      if (options[name] === undefined) continue;
      problems.push({ pointer: `/${name}`, message: `"${name}" is for teachers that look at images` });
    }
  } else if (!options.thoughts || options.closedPrompts !== 'none') {
    const name = options.thoughts ? 'closedPrompts' : 'thoughts';
    problems.push({ pointer: `/${name}`, message: `"${name}" is for the teacher attributes` });
  }
  return [...problems, ...selectionProblems(options.conceptSelection)];
}

function selectionProblems(selection: RewriteOptions['conceptSelection']): OptionProblem[] {
  if (selection === undefined) return [];
  const { by, ...settings } = selection;
  if (by === 'embedding') {
    if ((settings.model === undefined) !== (settings.hub === undefined)) return [];
    const hint =
      'model is a local folder such as ../models/e5-large-v2, hub a model of the Hugging Face hub such as Xenova/e5-large-v2';
    const pointer = settings.model === undefined ? '/conceptSelection' : '/conceptSelection/hub';
    return [{ pointer, message: 'either model or hub must be given, and not both', hint }];
  }
  return Object.entries(settings)
    .filter(([, value]) => value !== undefined)
    .map(([name]) => ({ pointer: `/conceptSelection/${name}`, message: `"${name}" means nothing where by is ${by}` }));
}
