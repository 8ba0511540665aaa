/**
 * The thought that a teacher writes in four tagged parts, its check, and the response that is made of it. Like Fine-R1's
 * first stage: visual analysis, candidate sub-categories, comparison, prediction, then the answer.
 */
import { scoreResponse } from '../../src/methods/reward.ts';

export interface Thought {
  readonly analysis: string;
  readonly candidates: readonly string[];
  /** What is said about each candidate, in the order of the candidates. */
  readonly comparison: readonly string[];
}

export interface ThoughtRules {
  readonly label: string;
  readonly maxCandidates: number;
  readonly language: 'latin' | 'any';
}

/** Why a thought is not taken, in a few words that are counted in the report. */
export interface Refusal {
  readonly problem: string;
}

const PARTS = ['analysis', 'options', 'comparison', 'prediction'] as const;

/** Letters and marks of other scripts than Latin. */
const OTHER_SCRIPT = /[^\P{L}\p{Script=Latin}\p{Script=Common}\p{Script=Inherited}]/u;

/** The parts of what the teacher wrote, or what is wrong with it. */
export function readThought(text: string, { label, maxCandidates, language }: ThoughtRules): Thought | Refusal {
  const parts: Record<string, string> = {};
  for (const name of PARTS) {
    const found = [...text.matchAll(new RegExp(`<${name}>([\\s\\S]*?)</${name}>`, 'g'))];
    if (found.length !== 1) return { problem: `the part <${name}> is there ${found.length} times instead of once` };
    parts[name] = found[0]![1]!.trim();
    if (parts[name] === '') return { problem: `the part <${name}> is empty` };
  }
  if (Object.values(parts).some((part) => /<\/?[a-z]+>/i.test(part))) return { problem: 'a part holds a tag' };
  if (language === 'latin' && OTHER_SCRIPT.test(Object.values(parts).join(' '))) {
    return { problem: 'it has letters of another script' };
  }
  if (!isSame(parts['prediction']!, label)) return { problem: 'the prediction is not the label' };
  const candidates = listItems(parts['options']!);
  if (candidates.length < 2) return { problem: 'it names fewer than two candidates' };
  if (candidates.length > maxCandidates) return { problem: `it names more than ${maxCandidates} candidates` };
  if (new Set(candidates.map(normal)).size < candidates.length) return { problem: 'it names a candidate twice' };
  const own = candidates.findIndex((candidate) => isSame(candidate, label));
  if (own === -1) return { problem: 'the label is not among the candidates' };
  const comparison = remarksOn(candidates, listItems(parts['comparison']!));
  if (comparison === null) return { problem: 'the comparison does not take up each candidate once' };
  return { analysis: parts['analysis']!, candidates: candidates.with(own, label), comparison };
}

/** The candidates in another order, remarks with them. */
export function reordered({ analysis, candidates, comparison }: Thought, order: readonly number[]): Thought {
  return {
    analysis,
    candidates: order.map((at) => candidates[at]!),
    comparison: order.map((at) => comparison[at]!),
  };
}

/** The assistant's turn, or what is wrong with it. */
export function responseOf({ analysis, candidates, comparison }: Thought, label: string): string | Refusal {
  const thought = [
    `Analysis of visual features:\n${analysis}`,
    `Candidate subcategories:\n${candidates.map((candidate, i) => `${i + 1}. ${candidate}`).join('\n')}`,
    `Comparison:\n${candidates.map((candidate, i) => `- ${candidate}: ${comparison[i]}`).join('\n')}`,
    `Final prediction:\nThe prediction is ${label}.`,
  ].join('\n\n');
  const response = `<think>${thought}</think>\n\n<answer>${label}</answer>`;
  const { format, accuracy } = scoreResponse(response, label);
  return format === 1 && accuracy === 1 ? response : { problem: 'the reward does not accept the response' };
}

/** Lines without the marks of a list; a line that goes on with the one before belongs to it. */
function listItems(text: string): string[] {
  const items: string[] = [];
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const isList = lines.some((line) => MARK.test(line));
  for (const line of lines) {
    const item = line.replace(MARK, '').replaceAll('**', '').trim();
    if (isList && !MARK.test(line) && items.length > 0) items[items.length - 1] += ` ${item}`;
    else items.push(item);
  }
  return items;
}

const MARK = /^\s*(?:[-*•]|\d+[.)])\s+/;

/** What is said about each candidate: one item each that begins with its name; null where that is not so. */
function remarksOn(candidates: readonly string[], items: readonly string[]): string[] | null {
  if (items.length !== candidates.length) return null;
  // Longer names first: `Boeing 737-800` is not taken for `Boeing 737`.
  const names = [...candidates].sort((a, b) => b.length - a.length);
  const remarks = new Map<string, string>();
  for (const item of items) {
    const name = names.find((each) => normal(item).startsWith(normal(each)));
    if (name === undefined || remarks.has(name)) return null;
    const remark = item.slice(name.length).replace(/^[\s:,–-]+/, '');
    if (remark === '') return null;
    remarks.set(name, remark);
  }
  return candidates.map((candidate) => remarks.get(candidate)!);
}

/** Without regard to a full stop, which ends a sentence or an abbreviation. */
function isSame(a: string, b: string): boolean {
  const plain = (text: string) => normal(text.replace(/[.\s]+$/, ''));
  return plain(a) === plain(b);
}

function normal(text: string): string {
  return text.toLowerCase().replaceAll('_', ' ').trim();
}
