/** Which linear layers of a model get an adapter: a list of names, or a regular expression over whole names, as in PEFT. */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { moduleName, type ParameterSpec } from '../models/qwen2_5_vl/parameters.ts';

export interface LinearModule {
  /** Canonical name, e.g. `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  readonly inputSize: number;
  readonly outputSize: number;
  readonly tower: ParameterSpec['tower'];
}

/** Names or ends of names; a regular expression that must match a whole name; or every layer. */
export type TargetModules = readonly string[] | string;

export const ALL_LINEAR = 'all-linear';

/** The layers that can have an adapter; neither the embedding table nor the output head, nor the patch convolution. */
export function linearModules(parameters: readonly ParameterSpec[]): LinearModule[] {
  return parameters.flatMap(({ name, shape, kind, tower }) =>
    kind === 'matrix' && shape.length === 2 && name !== 'lm_head.weight'
      ? [{ name: name.replace(/\.weight$/, ''), inputSize: shape[1]!, outputSize: shape[0]!, tower }]
      : [],
  );
}

/**
 * The layers among `modules` that are meant. Names count as canonical ones and as transformers' module names
 * (`model.language_model.layers...`, `model.visual...`).
 *
 * @throws ADAPTER_TARGET_UNKNOWN when the expression is none, or when it or an element of the list matches no layer; its pointer
 * is one into `targets`
 */
export function selectModules(modules: readonly LinearModule[], targets: TargetModules): LinearModule[] {
  if (targets === ALL_LINEAR) return [...modules];
  if (typeof targets === 'string') {
    const whole = wholeNamePattern(targets);
    const chosen = modules.filter(({ name }) => whole.test(name) || whole.test(moduleName(name)));
    if (chosen.length === 0) throw unknownTarget(targets, '', modules);
    return chosen;
  }
  const isMeant = (name: string, target: string) =>
    [name, moduleName(name)].some((spelled) => spelled === target || spelled.endsWith(`.${target}`));
  targets.forEach((target, i) => {
    if (!modules.some(({ name }) => isMeant(name, target))) throw unknownTarget(target, `/${i}`, modules);
  });
  return modules.filter(({ name }) => targets.some((target) => isMeant(name, target)));
}

function wholeNamePattern(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern})$`);
  } catch (cause) {
    throw new Fr1Error('ADAPTER_TARGET_UNKNOWN', `"${pattern}" is no regular expression: ${(cause as Error).message}`, {
      hint: 'write a list of layer names, e.g. [q_proj, v_proj], or a regular expression that matches whole names',
      pointer: '',
      cause,
    });
  }
}

function unknownTarget(target: string, pointer: string, modules: readonly LinearModule[]): Fr1Error {
  const ends = [...new Set(modules.map(({ name }) => leafName(name)))].sort();
  return new Fr1Error(
    'ADAPTER_TARGET_UNKNOWN',
    `no linear layer of the parts that are trained is called "${target}"; they are ${ends.join(', ')}`,
    {
      hint: `full names look like ${moduleName(modules[0]!.name)}; which parts are trained is said under \`trainable\``,
      pointer,
    },
  );
}

/** The end of a name that tells layers of a block apart: `q_proj`, `mlp.0`; `proj` alone is also the patch convolution. */
function leafName(name: string): string {
  return /(?:attn\.proj|mlp\.\d+|[^.]+)$/.exec(name)![0];
}

/**
 * A spelling of exactly these layers that PEFT and others read, whatever names their version of the model uses.
 *
 * @param modules all layers of the model
 */
export function spellTargets(chosen: readonly LinearModule[], modules: readonly LinearModule[]): string[] | string {
  const leaves = [...new Set(chosen.map(({ name }) => leafName(name)))].sort();
  const names = new Set(chosen.map(({ name }) => name));
  const isExactly = (candidates: readonly LinearModule[]) =>
    candidates.length === names.size && candidates.every(({ name }) => names.has(name));
  const alike = modules.filter(({ name }) => leaves.includes(leafName(name)));
  if (isExactly(alike)) return leaves;
  if (isExactly(alike.filter(({ tower }) => tower === 'text'))) {
    return `^(?!.*visual).*\\.(?:${leaves.join('|')})$`;
  }
  // Ends of names are the same in all layouts: only what stands before `layers` and `blocks` differs.
  return [...names].map((name) => name.replace(/^(?:model|visual)\./, ''));
}
