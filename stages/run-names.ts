/** The names of compared runs: metrics and rows carry them, so each must be of its own. */
import type { OptionProblem } from '../src/run/stage-api.ts';

export function repeatedNames({ runs }: { readonly runs: readonly { readonly name: string }[] }): OptionProblem[] {
  return runs.flatMap(({ name }, index) =>
    runs.findIndex((run) => run.name === name) === index
      ? []
      : [{ pointer: `/runs/${index}/name`, message: `another run is called "${name}" too` }],
  );
}
