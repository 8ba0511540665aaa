import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { crc32c, recordOf, TensorBoardWriter } from './tensorboard.ts';

const time = '2026-01-01T12:00:00.500Z';

describe('crc32c()', () => {
  it.each([
    // RFC 3720, appendix B.4.
    ['32 bytes of zeros', new Uint8Array(32), 0x8a9136aa],
    ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['0, 1 ... 31', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ])('of %s is that of the standard', (_what, data, expected) => {
    expect(crc32c(data)).toBe(expected);
  });
});

describe('TensorBoardWriter', () => {
  it('writes framed events per stage that hold steps and values', async () => {
    const folder = await temporaryFolder();
    const writer = new TensorBoardWriter(folder);
    writer.onEvent({ type: 'stage-metric', stage: 'sft', step: 300, values: { loss: 1.5 }, time });
    const ended = { fingerprint: '', durationMs: 1, outputs: {}, tables: [] };
    writer.onEvent({ type: 'stage-finished', stage: 'sft', metrics: { accuracy: { value: 0.5 } }, ...ended, time });
    writer.onEvent({ type: 'stage-finished', stage: 'dataset', metrics: {}, ...ended, time });
    writer.close();
    expect(await readdir(folder)).toEqual(['sft']);
    const [name] = await readdir(join(folder, 'sft'));
    expect(name).toBe('events.out.tfevents.1767268800.fr1');
    const bytes = await readFile(join(folder, 'sft', name!));
    const records: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const data = bytes.subarray(at + 12, at + 12 + Number(bytes.readBigUInt64LE(at)));
      expect(recordOf(data).equals(bytes.subarray(at, at + 16 + data.length))).toBe(true);
      records.push(data);
      at += 16 + data.length;
    }
    expect(records).toHaveLength(3);
    // wall_time, then step 300 as a varint, then the summary: tag "loss", value 1.5.
    const loss = Buffer.concat([Buffer.from([0x0a, 4]), Buffer.from('loss'), Buffer.from([0x15, 0, 0, 0xc0, 0x3f])]);
    const summary = Buffer.concat([Buffer.from([0x2a, loss.length + 2, 0x0a, loss.length]), loss]);
    expect(records[1]!.subarray(9)).toEqual(Buffer.concat([Buffer.from([0x10, 0xac, 0x02]), summary]));
    expect(records[1]!.readDoubleLE(1)).toBe(1767268800.5);
  });
});
