/** `outputs` of a pipeline: results and the places in the pipeline's folder where they go. */
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { mapEntries } from './read-stage.ts';
import { childOf, type TreeNode } from './tree.ts';
import type { PipelineOutput } from './types.ts';

/** @param file absolute path of the pipeline file */
export function readOutputs(node: TreeNode | undefined, file: string, problems: Fr1Error[]): PipelineOutput[] {
  const folder = path.dirname(file);
  const outputs: PipelineOutput[] = [];
  for (const { key, keyAt, value } of mapEntries(node)) {
    const from = value.kind === 'map' ? childOf(value, 'from') : value;
    const as = childOf(value, 'as');
    const absolute = path.resolve(folder, key);
    const wrong = placeProblem(key, absolute, file, outputs);
    if (wrong !== undefined) problems.push(new Fr1Error('OUTPUT_PATH_INVALID', wrong, { at: keyAt }));
    // The document schema tells of what is neither text nor a mapping.
    const isTold = from?.kind === 'scalar' && typeof from.value !== 'string';
    if (from === undefined || from.kind === 'failed' || isTold) continue;
    if (from.kind !== 'ref') {
      const isCells = from.kind === 'seq' && from.items.some(({ kind }) => kind === 'ref');
      const message = isCells
        ? `"${key}" is given the outputs of several cells: one folder holds one`
        : `"${key}" must be an output of a stage`;
      const hint = isCells
        ? "name one cell: ${{ stages['name.cell'].outputs.name }}"
        : 'write ${{ stages.name.outputs.name }}';
      problems.push(new Fr1Error('VALUE_TYPE', message, { at: from.at, hint }));
      continue;
    }
    const mode = as?.kind === 'scalar' && as.value === 'link' ? 'link' : 'copy';
    outputs.push({ written: key, path: absolute, source: from.ref, mode, position: keyAt });
  }
  return outputs;
}

function placeProblem(
  written: string,
  absolute: string,
  file: string,
  taken: readonly PipelineOutput[],
): string | undefined {
  const folder = path.dirname(file);
  const segments = written.split(/[\\/]/);
  if (path.isAbsolute(written) || path.win32.isAbsolute(written) || segments.includes('..') || written.includes('\0')) {
    return `"${written}" leaves the folder of the pipeline`;
  }
  if (absolute === folder) return `"${written}" is the folder of the pipeline itself`;
  if (path.relative(folder, absolute).split(path.sep)[0] === '.fr1') return `"${written}" lies in the workspace`;
  if (isWithin(file, absolute)) return `"${written}" is the pipeline file or a folder that holds it`;
  const other = taken.find(({ path: each }) => isWithin(each, absolute) || isWithin(absolute, each));
  return other === undefined ? undefined : `"${written}" and "${other.written}" lie in one another`;
}

function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer + path.sep);
}
