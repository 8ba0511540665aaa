/** The readers by source. */

import type { Needs, SourceData } from './source.ts';
import { readAircraft } from './sources/aircraft.ts';
import { readCars } from './sources/cars.ts';
import { readCub } from './sources/cub.ts';
import { readDogs } from './sources/dogs.ts';
import { readFlowers } from './sources/flowers.ts';
import { type NamedSource, readImageFolder } from './sources/image-folder.ts';
import { readPets } from './sources/pets.ts';
import { type Fields, readJsonRows, readParquetRows } from './sources/rows.ts';

export interface SourceRequest extends NamedSource {
  readonly root: string;
  readonly needs: Needs;
  readonly fields: Fields;
}

const READERS = {
  'fgvc-aircraft': ({ root, needs }) => readAircraft(root, needs),
  'cub-200-2011': ({ root }) => readCub(root),
  'stanford-cars': ({ root, needs }) => readCars(root, needs),
  'stanford-dogs': ({ root, needs }) => readDogs(root, needs),
  'oxford-flowers-102': ({ root }) => readFlowers(root),
  'oxford-iiit-pet': ({ root, needs }) => readPets(root, needs),
  'image-folder': async (request) => readImageFolder(request.root, request),
  jsonl: (request) => readJsonRows(request.root, request, request.fields),
  parquet: (request) => readParquetRows(request.root, request, request.fields),
} as const satisfies Record<string, (request: SourceRequest) => Promise<SourceData>>;

export type LabelledSource = keyof typeof READERS;

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export function readSource(source: LabelledSource, request: SourceRequest): Promise<SourceData> {
  return READERS[source](request);
}

export function isLabelledSource(source: string): source is LabelledSource {
  return Object.hasOwn(READERS, source);
}
