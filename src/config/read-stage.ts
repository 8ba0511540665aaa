/** The keys of a stage besides `uses` and `with`: names are looked up, quantities parsed, gates made. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import type { StageFacts } from './expressions.ts';
import { DURATION_HINT, parseDuration, parseSize, SIZE_HINT } from './quantities.ts';
import { childOf, entryOf, type MapEntry, type TreeNode } from './tree.ts';
import type { BetterThan, Expectation, ResourceWish, Retry, StageNeed } from './types.ts';

/** What a timer can hold; a longer wait is a typing error. */
const MAX_DURATION_MS = 20 * 86_400_000;

const RETRY_DEFAULTS: Retry = { times: 0, delayMs: 5_000, factor: 2, maxDelayMs: 600_000 };

/** Looks up names of stages: of the file, or of a cell. */
export class StageNames {
  readonly #stages: ReadonlyMap<string, StageFacts>;
  readonly #cells: ReadonlySet<string>;

  constructor(stages: ReadonlyMap<string, StageFacts>) {
    this.#stages = stages;
    this.#cells = new Set([...stages.values()].flatMap(({ matrix }) => matrix?.cells.map(({ id }) => id) ?? []));
  }

  /** Ids behind a name: all cells of a matrix; `undefined` when nothing has the name. */
  idsOf(name: string): readonly string[] | undefined {
    const facts = this.#stages.get(name);
    if (facts === undefined) return this.#cells.has(name) ? [name] : undefined;
    return facts.matrix === undefined ? [name] : (facts.matrix?.cells.map(({ id }) => id) ?? []);
  }

  hint(name: string, self: string): string | undefined {
    const group = name.includes('.') ? this.#stages.get(name.slice(0, name.indexOf('.'))) : undefined;
    const cells = group?.matrix?.cells.map(({ id }) => id);
    return didYouMean(name, cells ?? [...this.#stages.keys()].filter((each) => each !== self), 'stages');
  }

  metricsOf(id: string): readonly string[] | undefined {
    return (this.#stages.get(id) ?? this.#stages.get(id.slice(0, id.indexOf('.'))))?.metrics;
  }
}

export function readNeeds(stage: MapEntry, names: StageNames, problems: Fr1Error[]): StageNeed[] {
  const list = childOf(stage.value, 'needs');
  const needs: StageNeed[] = [];
  for (const item of list?.kind === 'seq' ? list.items : []) {
    if (item.kind !== 'scalar' || typeof item.value !== 'string') continue;
    const ids = names.idsOf(item.value);
    for (const id of ids ?? []) needs.push({ stage: id, position: item.at });
    if (ids !== undefined) continue;
    problems.push(
      new Fr1Error('STAGE_UNKNOWN_NEED', `stage "${stage.key}" needs "${item.value}", but no stage has that name`, {
        at: item.at,
        hint: names.hint(item.value, stage.key),
      }),
    );
  }
  return needs;
}

export function readExpectations(
  stage: MapEntry,
  definition: StageDefinition | undefined,
  names: StageNames,
  problems: Fr1Error[],
): Expectation[] {
  const known = definition?.metrics;
  return mapEntries(childOf(stage.value, 'expect')).map(({ key, keyAt, value }): Expectation => {
    if (known !== undefined && !known.includes(key)) {
      problems.push(
        new Fr1Error('METRIC_UNKNOWN', `stage "${stage.key}" returns no metric "${key}"`, {
          at: keyAt,
          hint: didYouMean(key, known, 'its metrics'),
        }),
      );
    }
    const atLeast = numberAt(value, 'atLeast');
    const atMost = numberAt(value, 'atMost');
    if (atLeast !== undefined && atMost !== undefined && atLeast > atMost) {
      problems.push(
        new Fr1Error('VALUE_RANGE', `no value of "${key}" is at least ${atLeast} and at most ${atMost}`, { at: keyAt }),
      );
    }
    const within = childOf(value, 'within');
    const of = numberAt(within, 'of');
    const tolerance = numberAt(within, 'tolerance');
    const betterThan = readBetterThan(stage, key, childOf(value, 'betterThan'), names, problems);
    return {
      metric: key,
      ...(atLeast !== undefined && { atLeast }),
      ...(atMost !== undefined && { atMost }),
      ...(of !== undefined && tolerance !== undefined && { within: { of, tolerance } }),
      ...(betterThan !== undefined && { betterThan }),
      position: keyAt,
    };
  });
}

function readBetterThan(
  stage: MapEntry,
  ownMetric: string,
  node: TreeNode | undefined,
  names: StageNames,
  problems: Fr1Error[],
): BetterThan | undefined {
  const nameNode = childOf(node, 'stage');
  if (nameNode?.kind !== 'scalar' || typeof nameNode.value !== 'string') return undefined;
  const name = nameNode.value;
  const ids = names.idsOf(name);
  if (ids === undefined || ids.length !== 1) {
    if (ids?.length === 0) return undefined;
    const message =
      ids === undefined
        ? `stage "${stage.key}" is compared with "${name}", but no stage has that name`
        : `stage "${stage.key}" is compared with "${name}", which has ${ids.length} cells`;
    const hint = ids === undefined ? names.hint(name, stage.key) : `name one cell, e.g. ${ids[0]}`;
    problems.push(new Fr1Error('STAGE_UNKNOWN', message, { at: nameNode.at, hint }));
    return undefined;
  }
  const metricNode = childOf(node, 'metric');
  const metric = metricNode?.kind === 'scalar' && typeof metricNode.value === 'string' ? metricNode.value : ownMetric;
  const known = names.metricsOf(ids[0]!);
  if (known !== undefined && !known.includes(metric)) {
    problems.push(
      new Fr1Error('METRIC_UNKNOWN', `stage "${name}" returns no metric "${metric}"`, {
        at: metricNode?.at ?? nameNode.at,
        hint: didYouMean(metric, known, 'its metrics'),
      }),
    );
  }
  const direction = childOf(node, 'direction');
  return {
    stage: ids[0]!,
    metric,
    by: numberAt(node, 'by') ?? 0,
    significance: numberAt(node, 'significance') ?? 0.05,
    direction: direction?.kind === 'scalar' && direction.value === 'lower' ? 'lower' : 'higher',
  };
}

/** `retry: 2` or a mapping. */
export function readRetry(stage: MapEntry, problems: Fr1Error[]): Retry | undefined {
  const node = childOf(stage.value, 'retry');
  if (node?.kind === 'scalar') {
    return typeof node.value === 'number' && node.value > 0 ? { ...RETRY_DEFAULTS, times: node.value } : undefined;
  }
  if (node?.kind !== 'map') return undefined;
  const times = numberAt(node, 'times') ?? 0;
  const delayMs = durationAt(node, 'delay', problems) ?? RETRY_DEFAULTS.delayMs;
  const maxDelayMs = durationAt(node, 'maxDelay', problems) ?? Math.max(delayMs, RETRY_DEFAULTS.maxDelayMs);
  return times > 0
    ? { times, delayMs, factor: numberAt(node, 'factor') ?? RETRY_DEFAULTS.factor, maxDelayMs }
    : undefined;
}

export function readTimeout(stage: MapEntry, problems: Fr1Error[]): number | undefined {
  return durationAt(stage.value, 'timeout', problems);
}

export function readResources(stage: MapEntry, problems: Fr1Error[]): ResourceWish | undefined {
  const node = childOf(stage.value, 'resources');
  if (node?.kind !== 'map') return undefined;
  const memory = childOf(node, 'memory');
  const slots = numberAt(node, 'slots');
  let memoryBytes: number | undefined;
  if (memory?.kind === 'scalar' && typeof memory.value === 'string') {
    memoryBytes = parseSize(memory.value);
    if (memoryBytes === undefined || memoryBytes < 1) {
      problems.push(
        new Fr1Error('DURATION_INVALID', `"${memory.value}" is not a size of memory`, {
          at: memory.at,
          hint: SIZE_HINT,
        }),
      );
    }
  }
  return { ...(memoryBytes !== undefined && { memoryBytes }), ...(slots !== undefined && { slots }) };
}

function durationAt(node: TreeNode, key: string, problems: Fr1Error[]): number | undefined {
  const duration = entryOf(node, key)?.value;
  if (duration?.kind !== 'scalar' || typeof duration.value !== 'string') return undefined;
  const ms = parseDuration(duration.value);
  if (ms !== undefined && ms > 0 && ms <= MAX_DURATION_MS) return ms;
  const message =
    ms === undefined ? `"${duration.value}" is not a duration` : `"${key}" must be more than nothing and at most 20d`;
  problems.push(new Fr1Error('DURATION_INVALID', message, { at: duration.at, hint: DURATION_HINT }));
  return undefined;
}

function numberAt(node: TreeNode | undefined, key: string): number | undefined {
  const value = childOf(node, key);
  return value?.kind === 'scalar' && typeof value.value === 'number' ? value.value : undefined;
}

export function mapEntries(node: TreeNode | undefined): readonly MapEntry[] {
  return node?.kind === 'map' ? node.entries : [];
}
