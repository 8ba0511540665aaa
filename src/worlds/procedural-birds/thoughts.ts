/**
 * Truthful chains of thought from known attributes, and their check.
 *
 * The form is that of Fine-R1's first stage: visual analysis, candidate sub-categories, comparison, prediction. The
 * true label's place among the candidates is shuffled, so that it cannot be found by position.
 */
import type { RandomStream } from '../../engine/random.ts';
import { ATTRIBUTES } from './attributes.ts';
import {
  describe,
  differingAttribute,
  distance,
  nameOf,
  neighbours,
  phrase,
  speciesNamed,
  traitsOf,
} from './species.ts';
import { isBaseSpecies } from './split.ts';

const MAX_CANDIDATES = 4;
const FORMAT = /^<think>.*?<\/think>\s*<answer>.*?<\/answer>$/s;

/** e.g. `red crown, not green` : what tells `species` from a neighbour. */
export function contrast(species: number, other: number): string {
  const attribute = differingAttribute(species, other);
  const word = ATTRIBUTES[attribute]!.values[traitsOf(other)[attribute]!]!.word;
  return `${phrase(attribute, traitsOf(species)[attribute]!)}, not ${word}`;
}

/**
 * One or two near neighbours that a chain of thought may name: classes of the training data or species that the base
 * knows, never a class that is held out.
 */
export function wrongCandidates(species: number, trainClasses: ReadonlySet<number>, stream: RandomStream): number[] {
  const near = neighbours(species);
  const pools = [near.filter((other) => trainClasses.has(other)), near.filter(isBaseSpecies)];
  const wanted = 1 + stream.integer(2);
  const chosen: number[] = [];
  while (chosen.length < wanted) {
    const pool = stream.choice(pools).filter((other) => !chosen.includes(other));
    if (pool.length > 0) chosen.push(stream.choice(pool));
    else if (pools.every((all) => all.every((other) => chosen.includes(other)))) break;
  }
  return chosen;
}

/**
 * The response for one image of `species`: about 60 tokens of fr1-tiny's tokenizer. Where the prompt offers options,
 * `offered` are the wrong ones among them that are near neighbours, and the candidates come from these.
 */
export function writeThought(
  species: number,
  trainClasses: ReadonlySet<number>,
  stream: RandomStream,
  offered: readonly number[] = [],
): string {
  const others =
    offered.length > 0 ? stream.shuffled(offered).slice(0, 2) : wrongCandidates(species, trainClasses, stream);
  const candidates = stream.shuffled([species, ...others]);
  const comparison = candidates.filter((other) => other !== species).map((other) => contrast(species, other));
  const label = nameOf(species);
  return (
    `<think>Visual analysis: ${describe(species)}. Candidate sub-categories: ${candidates.map(nameOf).join(', ')}. ` +
    `Comparison: ${comparison.join('; ')}. The prediction is ${label}.</think>\n<answer>${label}</answer>`
  );
}

/** The response without a thought. */
export function writeAnswer(label: string): string {
  return `<answer>${label}</answer>`;
}

/**
 * Why a response may not be used for training, or null. Checks the format of Fine-R1's reward, that the prediction is
 * among at most four distinct candidates, that prediction and answer equal the label, and - where the label is a species
 * of this world - that the analysis is true and the candidates are species.
 */
export function rejectionOf(response: string, label: string): string | null {
  if (!FORMAT.test(response)) return 'does not have the form <think>...</think><answer>...</answer>';
  for (const tag of ['<think>', '</think>', '<answer>', '</answer>']) {
    if (response.split(tag).length !== 2) return `has ${tag} more than once`;
  }
  const answer = /<answer>(.*?)<\/answer>/s.exec(response)?.[1]?.trim();
  if (answer !== label) return `answers "${answer}" instead of "${label}"`;
  const parts =
    /<think>Visual analysis: (.+?)\. Candidate sub-categories: (.+?)\. Comparison: (.+?)\. The prediction is (.+?)\.<\/think>/s.exec(
      response,
    );
  if (parts === null) return 'lacks one of analysis, candidates, comparison and prediction';
  const [, analysis, list, , prediction] = parts as unknown as [string, string, string, string, string];
  const candidates = list.split(', ');
  if (prediction !== label) return `predicts "${prediction}" instead of "${label}"`;
  if (!candidates.includes(prediction)) return `predicts "${prediction}", which is not among its candidates`;
  if (new Set(candidates).size !== candidates.length) return 'names a candidate twice';
  if (candidates.length < 2 || candidates.length > MAX_CANDIDATES) return `has ${candidates.length} candidates`;
  const species = speciesNamed(label);
  if (species === undefined) return null;
  if (analysis !== describe(species)) return `analysis "${analysis}" is not true of "${label}"`;
  const stranger = candidates.find((name) => speciesNamed(name) === undefined);
  if (stranger !== undefined) return `candidate "${stranger}" is no species`;
  const expected = candidates.filter((name) => name !== label).map((name) => speciesNamed(name)!);
  if (expected.some((other) => distance(species, other) !== 1)) return 'has a candidate that is no near neighbour';
  if (parts[3] !== expected.map((other) => contrast(species, other)).join('; ')) return 'its comparison is not true';
  return null;
}
