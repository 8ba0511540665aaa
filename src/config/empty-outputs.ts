/** Options that take an output in which its stage will leave nothing. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { pointerSegments } from './tree.ts';
import type { ArtifactRef, PipelineStage } from './types.ts';

/** @param stages their options are valid: `emptyOutputs` reads them */
export function emptyInputs(stages: readonly PipelineStage[]): Fr1Error[] {
  const makers = new Map(stages.map((stage) => [stage.name, stage]));
  const reasons = new Map(
    stages.map(({ name, definition, options }) => [name, definition.emptyOutputs?.(options) ?? {}]),
  );
  return stages.flatMap((stage) => {
    // What variables have switched off takes nothing.
    if (stage.if?.constant === false) return [];
    return stage.inputs.flatMap(({ pointer, source, position }) => {
      if (source.kind !== 'artifact-ref') return [];
      const reason = reasons.get(source.stage)?.[source.output];
      if (reason === undefined) return [];
      const option = pointerSegments(pointer).join('.');
      const message = `stage "${stage.name}": option "${option}" takes stages.${source.stage}.outputs.${source.output}, which will hold nothing: ${reason}`;
      return [new Fr1Error('OUTPUT_EMPTY', message, { at: position, hint: hintFor(source, makers, reasons) })];
    });
  });
}

function hintFor(
  { stage, output, type }: ArtifactRef,
  makers: ReadonlyMap<string, PipelineStage>,
  reasons: ReadonlyMap<string, Readonly<Partial<Record<string, string>>>>,
): string {
  const others = [...makers].flatMap(([name, { definition }]) =>
    Object.entries(definition.outputs)
      .filter(([each, spec]) => spec.type === type && reasons.get(name)?.[each] === undefined)
      .map(([each]) => `stages.${name}.outputs.${each}`),
  );
  const change = `change the options of "${stage}" so that it fills ${output}`;
  return others.length === 0 ? change : `${change}, or take ${others.slice(0, 4).join(', ')}`;
}
