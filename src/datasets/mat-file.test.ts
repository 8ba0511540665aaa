import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { fixture } from '../../test/helpers/fixtures.ts';
import { SHARED_DATA, sharedData } from '../../test/helpers/shared-data.ts';
import { type MatValue, parseMatFile, readMatFile } from './mat-file.ts';

function numbersOf(value: MatValue | undefined): readonly number[] {
  if (value?.kind !== 'numbers') throw new Error(`${value?.kind} instead of numbers`);
  return value.values;
}

/** A sum that a wrong order changes. */
const weighted = (values: readonly number[]) => values.reduce((sum, value, i) => sum + value * (i + 1), 0);

describe('readMatFile()', () => {
  // Written by scipy.io.savemat 1.17.1, without and with compression.
  it.each(['plain', 'compressed'])('reads what scipy wrote, %s', async (name) => {
    const text = (value: string) => ({ kind: 'text', text: value });
    const numbers = (dims: number[], values: number[]) => ({ kind: 'numbers', dims, values });
    expect(await readMatFile(fixture('matlab', `${name}.mat`))).toEqual({
      class_names: {
        kind: 'cells',
        dims: [1, 3],
        cells: [text('Red Kite 2012'), text("colt's foot"), text('Zoë 1/2')],
      },
      annotations: {
        kind: 'structs',
        dims: [1, 2],
        elements: [
          { class: numbers([1, 1], [14]), fname: text('00001.jpg'), box: numbers([1, 2], [1.5, -2]) },
          { class: numbers([1, 1], [300]), fname: text('00002.jpg'), box: numbers([1, 0], []) },
        ],
      },
      labels: numbers([3, 1], [1, 2, 120]),
      // [[1, 2, 3], [4, 5, 6]], the first dimension fastest.
      ids: numbers([2, 3], [1, 4, 2, 5, 3, 6]),
      big: numbers([1, 1], [-5_000_000_000]),
      lines: text('ab\nc'),
    });
  });

  it('refuses what is missing, cut off or of another kind', async () => {
    await expect(readMatFile(fixture('matlab', 'none.mat'))).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
    const whole = readFileSync(fixture('matlab', 'plain.mat'));
    for (let length = 0; length < whole.length; length += 8) {
      const folder = mkdtempSync(path.join(tmpdir(), 'fr1-mat-'));
      const file = path.join(folder, 'cut.mat');
      writeFileSync(file, whole.subarray(0, length));
      const result = await readMatFile(file).catch((error: unknown) => error);
      rmSync(folder, { recursive: true });
      // A cut between two variables leaves a file that is whole.
      if (result instanceof Error) expect(result).toMatchObject({ code: 'DATA_UNREADABLE' });
      else expect(Object.keys(result as object).length).toBeLessThan(6);
    }
    const newer = Uint8Array.from(whole);
    newer[125] = 2;
    expect(() => parseMatFile(newer)).toThrow('0x200');
    expect(() => parseMatFile(new TextEncoder().encode('no matlab '.repeat(20)))).toThrow('byte order');
  });

  // Expected values: scipy.io.loadmat 1.17.1 on the same files.
  it.skipIf(SHARED_DATA === undefined)(
    'reads the official files of Stanford Cars and Flowers as scipy does',
    async () => {
      const annotations = sharedData('annotations');
      const cars = await readMatFile(path.join(annotations, 'stanford_cars/devkit/cars_train_annos.mat'));
      const rows = cars['annotations']?.kind === 'structs' ? cars['annotations'].elements : [];
      expect(rows.length).toBe(8144);
      expect(weighted(rows.map((row) => numbersOf(row['class'])[0]!))).toBe(3_287_785_147);
      expect(rows.reduce((sum, row) => sum + numbersOf(row['bbox_x2'])[0]!, 0)).toBe(5_197_571);
      expect(rows.at(-1)!['fname']).toEqual({ kind: 'text', text: '08144.jpg' });
      const meta = await readMatFile(path.join(annotations, 'stanford_cars/devkit/cars_meta.mat'));
      expect(meta['class_names']).toMatchObject({ kind: 'cells', dims: [1, 196] });
      const labels = await readMatFile(path.join(annotations, 'flowers102/imagelabels.mat'));
      expect(weighted(numbersOf(labels['labels']))).toBe(1_819_776_735);
      const sets = await readMatFile(path.join(annotations, 'flowers102/setid.mat'));
      expect(weighted(numbersOf(sets['trnid']))).toBe(2_493_852_605);
      expect(weighted(numbersOf(sets['valid']))).toBe(2_485_307_898);
      expect(weighted(numbersOf(sets['tstid']))).toBe(69_196_809_934);
    },
  );
});
