/** Finds what `uses` names: a built-in kind, or a plugin by path or package. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { childOf, type MapEntry, type TreeNode, toValue } from './tree.ts';

export type LoadPlugin = (uses: string, folder: string) => Promise<StageDefinition | undefined>;

export class StageKinds {
  readonly #kinds: ReadonlyMap<string, StageDefinition>;
  readonly #loadPlugin: LoadPlugin | undefined;
  readonly #folder: string;
  readonly #problems: Fr1Error[];

  /** @param folder absolute; where a path starts that stands in no file */
  constructor(
    definitions: readonly StageDefinition[],
    loadPlugin: LoadPlugin | undefined,
    folder: string,
    problems: Fr1Error[],
  ) {
    this.#kinds = new Map(definitions.map((definition) => [definition.kind, definition]));
    this.#loadPlugin = loadPlugin;
    this.#folder = folder;
    this.#problems = problems;
  }

  /** The definition for a stage, given its resolved `uses`; `null` where there is none, which is then reported. */
  async find(stage: MapEntry, uses: TreeNode | undefined): Promise<StageDefinition | null> {
    if (uses?.kind !== 'scalar' || typeof uses.value !== 'string' || uses.value === '') return null;
    const kind = uses.value;
    try {
      const definition = this.#kinds.get(kind) ?? (await this.#loadPlugin?.(kind, uses.folder ?? this.#folder));
      if (definition !== undefined) {
        const written = childOf(stage.value, 'with');
        return definition.forOptions?.(written && toValue(written)) ?? definition;
      }
    } catch (error) {
      if (!(error instanceof Fr1Error)) throw error;
      const { code, message, hint, cause } = error;
      this.#problems.push(new Fr1Error(code, message, { at: uses.at, hint, cause }));
      return null;
    }
    this.#problems.push(
      new Fr1Error('STAGE_KIND_UNKNOWN', `stage "${stage.key}" uses "${kind}", but there is no such kind of stage`, {
        at: uses.at,
        hint: didYouMean(kind, [...this.#kinds.keys()], 'kinds'),
      }),
    );
    return null;
  }
}
