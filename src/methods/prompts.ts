/**
 * The prompts by name and version. A name is written into every result, since accuracies under different prompts cannot
 * be compared; the text behind a name never changes, a new text gets a new version.
 */
import { RandomStream } from '../engine/random.ts';
import { listRepr, strip } from './python-text.ts';

export interface PromptItem {
  readonly question: string;
  /** In the order in which they are shown; empty where none are offered. */
  readonly options: readonly string[];
}

export const PROMPTS = {
  'fine-r1/closed@1': ({ question, options }: PromptItem) =>
    `Given the question: ${question}, based on the options provided in ${listRepr(options)}, output the thinking process in <think> </think> and final choice in <answer> </answer> tags. The response format should be: <think>...</think> <answer>choice</answer>.`,
  'fine-r1/open@1': ({ question }: PromptItem) =>
    `Given the question: ${question}. This is a fine-grained question. Output reasoning in <think></think> and the final answer in <answer></answer>.`,
  'fine-r1/answer-only@1': ({ question }: PromptItem) =>
    `Given the question: ${question}.\n This is a fine-grained question, so you need to output fine-grained categories, such as specific animal species or car, airplane model. Output the final answer in <answer> </answer> tags. The response format should be as follows: <answer> Your answer </answer>. Please follow this format exactly.`,
  'fine-r1/rl@1': ({ question }: PromptItem) =>
    `${strip(question)}\n\nYou first think through the reasoning process as an internal monologue, enclosed within <think> </think> tags. Then, provide your final answer enclosed within <answer> </answer> tags.`,
  'compact/closed@1': ({ question, options }: PromptItem) => `${question} Options: ${options.join(', ')}.`,
  'compact/open@1': ({ question }: PromptItem) => question,
  'compact/rl@1': ({ question }: PromptItem) => question,
} as const satisfies Record<string, (item: PromptItem) => string>;

export type PromptName = keyof typeof PROMPTS;

/** What a prompt is for. */
export type PromptUse = 'closed' | 'open' | 'rl';

/** A set of prompts that belong together. */
export type PromptFamily = 'compact' | 'fine-r1' | 'answer-only';

const FAMILIES = {
  compact: { closed: 'compact/closed@1', open: 'compact/open@1', rl: 'compact/rl@1' },
  'fine-r1': { closed: 'fine-r1/closed@1', open: 'fine-r1/open@1', rl: 'fine-r1/rl@1' },
  'answer-only': { closed: 'fine-r1/closed@1', open: 'fine-r1/answer-only@1', rl: 'fine-r1/rl@1' },
} as const satisfies Record<PromptFamily, Record<PromptUse, PromptName>>;

/** The current prompt of a family for a use. */
export function promptOf(family: PromptFamily, use: PromptUse): PromptName {
  return FAMILIES[family][use];
}

/** The text after the image in the user's turn. */
export function renderPrompt(name: PromptName, item: PromptItem): string {
  return PROMPTS[name](item);
}

export type OptionOrder = 'shuffled' | 'as-shipped';

/**
 * The options in the order in which they are shown. A shuffle depends on the seed and the item alone, so that every
 * checkpoint sees the same order for the same item.
 */
export function orderOptions(options: readonly string[], order: OptionOrder, seed: number, itemId: string): string[] {
  return order === 'as-shipped' ? [...options] : new RandomStream(seed, 'option-order', itemId).shuffled(options);
}
