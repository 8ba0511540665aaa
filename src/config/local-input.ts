/** A folder of the user that stands where an artifact may: it must exist and hold what the artifact's type needs. */
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ArtifactType } from '../artifacts/types.ts';
import { cachedModel, hubCacheFolder, hubModel } from './hub-cache.ts';
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
  const model = accepts.includes('checkpoint') ? hubModel(written) : null;
  const cached = model && !existsSync(path.resolve(folder, written)) ? cachedModel(model) : undefined;
  const absolute = cached ?? path.resolve(folder, written);
  const source = existsSync(absolute) ? undefined : sourceOfInput(written);
  if (!existsSync(absolute) && model && source === undefined) {
    return {
      problem: 'INPUT_MISSING',
      message: `there is no folder ${written}, nor a model of that name from the Hugging Face hub in ${hubCacheFolder()}`,
      hint: `\`fr1 fetch ${written}\` downloads it; without a network, copy the model's folder here and give its path`,
    };
  }
  if (!existsSync(absolute)) {
    const place = path.isAbsolute(written)
      ? `give the path of a folder that exists, or an output: \${{ stages.name.outputs.name }}`
      : `paths start at the pipeline file's folder: ${absolute}`;
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
    const isAdapter =
      known.includes('checkpoint') && isFolder && existsSync(path.join(absolute, 'adapter_config.json'));
    if (isAdapter) {
      return {
        problem: 'INPUT_INVALID',
        message: `${written} is no ${accepts.join(' or ')} but a PEFT adapter, which says nothing of its base model`,
        hint: `join the two in a stage before: { uses: export, with: { model: <the base>, adapter: ${written} } }`,
      };
    }
    const markers = [...new Set(known.flatMap((each) => MARKERS[each]))].join(' or ');
    return {
      problem: 'INPUT_INVALID',
      message: `${written} is no ${accepts.join(' or ')}: it has no ${markers}`,
      hint: 'name the folder that holds it',
    };
  }
  return { kind: 'local-input', path: absolute, written, type };
}
