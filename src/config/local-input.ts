/** A folder of the user that stands where an artifact may: it must exist and hold what the artifact's type needs. */
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ArtifactType } from '../artifacts/types.ts';
import { sourceOfInput } from './known-inputs.ts';
import type { LocalInput } from './types.ts';

/** The files by any of which a folder of that type is recognised; `files` is any folder, or a single file. */
const MARKERS: Readonly<Record<Exclude<ArtifactType, 'files'>, readonly string[]>> = {
  'image-data': ['dataset.json'],
  'eval-data': ['dataset.json'],
  'sft-data': ['data.json'],
  'triplet-data': ['dataset.json'],
  checkpoint: ['config.json', 'base/config.json'],
  adapter: ['adapter_config.json'],
  predictions: ['rows.jsonl'],
  metrics: ['metrics.json'],
  rollouts: ['rollouts.jsonl'],
};

export interface LocalInputProblem {
  readonly problem: 'INPUT_MISSING' | 'INPUT_INVALID';
  readonly message: string;
  readonly hint: string;
}

/** Where several types are accepted, the first whose file is there. */
export function localInput(
  written: string,
  accepts: readonly ArtifactType[],
  folder: string,
): LocalInput | LocalInputProblem {
  const absolute = path.resolve(folder, written);
  if (!existsSync(absolute)) {
    const place = path.isAbsolute(written)
      ? `give the path of a folder that exists, or an output: \${{ stages.name.outputs.name }}`
      : `paths start at the pipeline file's folder: ${absolute}`;
    const source = sourceOfInput(written);
    const hint = source === undefined ? place : `${source}; ${place}`;
    return {
      problem: 'INPUT_MISSING',
      message: `there is no ${accepts.includes('files') ? 'file or folder' : 'folder'} ${written}`,
      hint,
    };
  }
  const isFolder = statSync(absolute).isDirectory();
  const takesAnything = accepts.includes('files');
  if (!isFolder && !takesAnything) {
    return {
      problem: 'INPUT_INVALID',
      message: `${written} is not a folder`,
      hint: 'name the folder that holds the file',
    };
  }
  const known = accepts.filter((each) => each !== 'files');
  const type =
    known.find((each) => isFolder && MARKERS[each].some((marker) => existsSync(path.join(absolute, marker)))) ??
    (takesAnything ? 'files' : undefined);
  if (type === undefined) {
    const markers = [...new Set(known.flatMap((each) => MARKERS[each]))].join(' or ');
    return {
      problem: 'INPUT_INVALID',
      message: `${written} is no ${accepts.join(' or ')}: it has no ${markers}`,
      hint: 'name the folder that holds it',
    };
  }
  return { kind: 'local-input', path: absolute, written, type };
}
