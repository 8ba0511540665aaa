/** The marks in a command's arguments, `{input.data}` and so on, and what stands for them. */

export interface Places {
  readonly inputs: Readonly<Record<string, string>>;
  readonly outputs: Readonly<Record<string, string>>;
  readonly state: string;
  readonly metrics: string;
  readonly seed: string;
}

const MARK = /\{(?:(input|output)\.([^{}\s]+)|(state|metrics|seed))\}/g;

/** Marks that name an input or output that there is not, e.g. `{input.dta}`. */
export function unknownMarks(argument: string, inputs: readonly string[], outputs: readonly string[]): string[] {
  return [...argument.matchAll(MARK)].flatMap(([mark, kind, name]) => {
    if (name === undefined) return [];
    return (kind === 'input' ? inputs : outputs).includes(name) ? [] : [mark];
  });
}

/** The argument with each mark replaced; any other brace is left alone. */
export function fillMarks(argument: string, { inputs, outputs, ...places }: Places): string {
  return argument.replace(MARK, (_mark, kind: string | undefined, name: string, place: keyof typeof places) =>
    kind === undefined ? places[place] : (kind === 'input' ? inputs : outputs)[name]!,
  );
}

/** The same places as variables: `FR1_INPUT_DATA`, `FR1_OUTPUT_MODEL`, `FR1_STATE`, `FR1_METRICS`, `FR1_SEED`. */
export function placeVariables({ inputs, outputs, state, metrics, seed }: Places): Record<string, string> {
  const named = (kind: string, paths: Readonly<Record<string, string>>) =>
    Object.entries(paths).map(([name, path]) => [`FR1_${kind}_${name.toUpperCase()}`, path]);
  return {
    ...Object.fromEntries([...named('INPUT', inputs), ...named('OUTPUT', outputs)]),
    FR1_STATE: state,
    FR1_METRICS: metrics,
    FR1_SEED: seed,
  };
}
