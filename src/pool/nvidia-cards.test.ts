import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { nvidiaCards } from './nvidia-cards.ts';

describe('nvidiaCards()', () => {
  it('reads the names that the driver gives, by bus', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'fr1-cards-'));
    for (const [slot, model] of [
      ['0000:b0:00.0', 'NVIDIA L4'],
      ['0000:04:00.0', 'NVIDIA H100 80GB HBM3'],
    ]) {
      mkdirSync(path.join(folder, slot!));
      writeFileSync(
        path.join(folder, slot!, 'information'),
        `Model: \t\t ${model}\nIRQ:   \t\t 44\nBus Location: \t ${slot}\n`,
      );
    }
    expect(await nvidiaCards(folder)).toEqual(['NVIDIA H100 80GB HBM3', 'NVIDIA L4']);
    rmSync(folder, { recursive: true });
  });

  it('finds none without the driver', async () => {
    expect(await nvidiaCards('/no/such/folder')).toEqual([]);
  });
});
