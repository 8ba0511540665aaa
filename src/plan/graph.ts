/** The graph of stages: who waits for whom, in which order, and which circles there are. */
import type { PipelineStage } from '../config/types.ts';
import { printPlace } from '../errors/format.ts';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';

/** One stage waits for another. */
export interface Edge {
  readonly to: string;
  /** Where the text says so. */
  readonly position: SourcePosition;
  /** The option or `needs`. */
  readonly reason: string;
}

export type Graph = ReadonlyMap<string, readonly Edge[]>;

/** Edges by waiting stage, one per stage waited for. */
export function graphOf(stages: readonly PipelineStage[]): Graph {
  return new Map(
    stages.map((stage) => {
      const edges = new Map<string, Edge>();
      const add = (edge: Edge) => {
        if (!edges.has(edge.to)) edges.set(edge.to, edge);
      };
      for (const { source, position, pointer } of stage.inputs) {
        if (source.kind === 'artifact-ref') {
          add({ to: source.stage, position, reason: `option "${pointer.slice(1).replaceAll('/', '.')}"` });
        }
      }
      for (const need of stage.needs) add({ to: need.stage, position: need.position, reason: 'needs' });
      for (const to of stage.if?.stages ?? []) add({ to, position: stage.if!.position, reason: 'if' });
      for (const { betterThan, position } of stage.expect) {
        if (betterThan !== undefined) add({ to: betterThan.stage, position, reason: 'expect' });
      }
      return [stage.name, [...edges.values()]];
    }),
  );
}

/** Circles, each told once, beginning with the stage that stands first in the file. */
export function cycleErrors(graph: Graph): Fr1Error[] {
  const rank = new Map([...graph.keys()].map((name, i) => [name, i]));
  const done = new Set<string>();
  const errors = new Map<string, Fr1Error>();
  for (const start of graph.keys()) {
    if (done.has(start)) continue;
    // Depth first without recursion: a chain may be thousands of stages long.
    const path: { readonly name: string; next: number }[] = [{ name: start, next: 0 }];
    const onPath = new Map([[start, 0]]);
    while (path.length > 0) {
      const top = path.at(-1)!;
      const edge = graph.get(top.name)?.[top.next++];
      if (edge === undefined) {
        done.add(top.name);
        onPath.delete(top.name);
        path.pop();
        continue;
      }
      const seenAt = onPath.get(edge.to);
      if (seenAt !== undefined) {
        const names = path.slice(seenAt).map(({ name }) => name);
        const first = names.reduce((best, name, i) => (rank.get(name)! < rank.get(names[best]!)! ? i : best), 0);
        const circle = [...names.slice(first), ...names.slice(0, first)];
        errors.set(circle.join('\0'), cycleError(circle, graph));
      } else if (!done.has(edge.to)) {
        onPath.set(edge.to, path.length);
        path.push({ name: edge.to, next: 0 });
      }
    }
  }
  return [...errors.values()];
}

function cycleError(circle: readonly string[], graph: Graph): Fr1Error {
  const steps = circle.map((name, i) => {
    const to = circle[(i + 1) % circle.length]!;
    return { name, to, edge: graph.get(name)!.find((edge) => edge.to === to)! };
  });
  const lines = steps.map(
    ({ name, to, edge }) => `  "${name}" waits for "${to}" (${edge.reason}, ${printPlace(edge.position)})`,
  );
  const message =
    circle.length === 1
      ? `the stage "${circle[0]}" waits for itself (${steps[0]!.edge.reason})`
      : `stages wait for each other in a circle: ${[...circle, circle[0]].join(' -> ')}\n${lines.join('\n')}`;
  return new Fr1Error('STAGE_CYCLE', message, {
    at: steps[0]!.edge.position,
    hint: 'remove one of these references',
  });
}

/** Names so that each comes after those it waits for, else in the given order. The graph has no circles. */
export function topologicalOrder(graph: Graph): string[] {
  const rank = new Map([...graph.keys()].map((name, i) => [name, i]));
  const waiting = new Map([...graph].map(([name, edges]) => [name, edges.length]));
  const followers = followersOf(graph);
  const ready = new MinHeap<string>((name) => rank.get(name)!);
  for (const [name, count] of waiting) if (count === 0) ready.push(name);
  const order: string[] = [];
  for (let name = ready.pop(); name !== undefined; name = ready.pop()) {
    order.push(name);
    for (const follower of followers.get(name) ?? []) {
      const left = waiting.get(follower)! - 1;
      waiting.set(follower, left);
      if (left === 0) ready.push(follower);
    }
  }
  return order;
}

/** The stages that wait directly for each stage. */
export function followersOf(graph: Graph): Map<string, string[]> {
  const followers = new Map<string, string[]>([...graph.keys()].map((name) => [name, []]));
  for (const [name, edges] of graph) for (const { to } of edges) followers.get(to)?.push(name);
  return followers;
}

/** Everything reachable from the given names, themselves included. */
export function closure(names: Iterable<string>, next: (name: string) => Iterable<string>): Set<string> {
  const reached = new Set<string>();
  const open = [...names];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (reached.has(name)) continue;
    reached.add(name);
    open.push(...next(name));
  }
  return reached;
}

class MinHeap<T> {
  readonly #items: T[] = [];
  readonly #key: (item: T) => number;

  constructor(key: (item: T) => number) {
    this.#key = key;
  }

  push(item: T): void {
    const items = this.#items;
    items.push(item);
    for (let i = items.length - 1; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (this.#key(items[parent]!) <= this.#key(items[i]!)) break;
      [items[parent], items[i]] = [items[i]!, items[parent]!];
      i = parent;
    }
  }

  pop(): T | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (items.length === 0 || last === undefined) return top;
    items[0] = last;
    for (let i = 0; ; ) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (child < items.length && this.#key(items[child]!) < this.#key(items[least]!)) least = child;
      }
      if (least === i) return top;
      [items[i], items[least]] = [items[least]!, items[i]!];
      i = least;
    }
  }
}
