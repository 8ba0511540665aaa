import { describe, expect, it } from 'vitest';
import { EtaEstimator } from './eta.ts';
import { tableLines, widthOf } from './table.ts';
import {
  agoText,
  busyText,
  durationText,
  expectationText,
  firstLine,
  numberText,
  oneLine,
  peakText,
  reasonText,
} from './words.ts';

describe('durationText()', () => {
  it.each([
    [40, '40 ms'],
    [430, '0.4 s'],
    [9_949, '9.9 s'],
    [9_960, '10 s'],
    [59_600, '1 min 00 s'],
    [185_000, '3 min 05 s'],
    [7_500_000, '2 h 05 min'],
  ])('prints %d ms as %s', (ms, text) => {
    expect(durationText(ms)).toBe(text);
  });
});

describe('peakText()', () => {
  it('tells the most that was taken beside what was there before and what was expected', () => {
    const record = { startBytes: 310 * 2 ** 20, peakBytes: 8.9 * 2 ** 30 };
    expect(peakText(record)).toBe('took 8.9 GiB of memory at most (310 MiB when it began)');
    expect(peakText({ ...record, expectedBytes: 9.1 * 2 ** 30 })).toBe(
      'took 8.9 GiB of memory at most (310 MiB when it began), expected 9.1 GiB',
    );
  });
});

describe('busyText()', () => {
  const event = { type: 'device-busy', stage: 'sft', pid: 47, holder: 'birds/tapo', device: 'cpu' } as const;
  const times = { time: '2026-01-01T00:03:05.000Z', since: '2026-01-01T00:00:00.000Z' };

  it('tells who has the device, for how long, and what would not wait', () => {
    expect(busyText({ ...event, ...times })).toBe(
      'waits for cpu, which process 47 (birds/tapo) has had for 3 min 05 s; a lower --threads in both runs shares it, FR1_LEASE_DIR=off would not wait',
    );
    expect(busyText({ ...event, ...times, device: null })).toBe(
      'waits in line behind process 47 (birds/tapo), which has waited for 3 min 05 s; FR1_LEASE_DIR=off would not wait',
    );
  });
});

describe('agoText()', () => {
  it.each([
    [10, 'just now'],
    [300, '5 min ago'],
    [7_200, '2 h ago'],
    [200_000, '2 days ago'],
  ])('prints %d seconds as %s', (seconds, text) => {
    expect(agoText(new Date(0).toISOString(), 1000 * seconds)).toBe(text);
  });
});

describe('reasonText()', () => {
  it('names what changed and shortens long values', () => {
    const changes = [{ path: 'options.text', before: 'a'.repeat(60), after: 'b' }];
    expect(reasonText({ kind: 'changed', changes })).toBe(`options.text changed ${'a'.repeat(39)}… -> b`);
    expect(reasonText({ kind: 'changed', changes: [] })).toBe('what its last run left is gone');
  });
});

describe('expectationText()', () => {
  it('says when there is no such metric', () => {
    expect(expectationText({ metric: 'f1', atLeast: 0.1, atMost: 0.9, got: null, met: false })).toBe(
      'expected f1 at least 0.1 and at most 0.9, the stage returned no such metric',
    );
  });
});

describe('numberText()', () => {
  it.each([
    [3, '3'],
    [0.123456, '0.1235'],
    [-0.5, '-0.5000'],
    [0.00001234, '0.00001234'],
  ])('prints %d as %s', (value, text) => {
    expect(Number(numberText(value))).toBeCloseTo(value, 4);
    expect(numberText(value)).toBe(text);
  });
});

describe('oneLine()', () => {
  it('takes line breaks and control characters out', () => {
    expect(oneLine('a \r\n b\u001b[2J')).toBe('a b [2J');
  });
});

describe('firstLine()', () => {
  it('leaves the list out that a message introduces', () => {
    expect(firstLine('these differ:\n  a\n  b')).toBe('these differ');
    expect(firstLine('alone:')).toBe('alone:');
  });
});

describe('tableLines()', () => {
  it('aligns by the columns that characters take', () => {
    expect(widthOf('鸟a\u0301')).toBe(3);
    const lines = tableLines({
      title: 'T',
      columns: ['class', 'n'],
      rows: [
        ['鸟', '5'],
        ['bird', '10'],
      ],
    });
    expect(lines).toEqual(['T', 'class   n', '-----  --', '鸟      5', 'bird   10']);
  });

  it('keeps a row that is too short', () => {
    expect(tableLines({ title: 'T', columns: ['a', 'b'], rows: [['x']] })).toEqual(['T', 'a  b', '-  -', 'x']);
  });
});

describe('EtaEstimator', () => {
  const steps = (done: number) => ({ done, total: 100, unit: 'steps' });

  it('counts from the first event, so that resumed steps are not fast ones', () => {
    const eta = new EtaEstimator();
    expect(eta.observe(steps(50), 0)).toBeUndefined();
    expect(eta.observe(steps(60), 10_000)).toBe(40_000);
  });

  it('follows a change of speed within a minute', () => {
    const eta = new EtaEstimator();
    for (let second = 0; second <= 60; second++)
      eta.observe({ done: second, total: 1_000, unit: 'steps' }, second * 1_000);
    let last: number | undefined;
    for (let step = 1; step <= 15; step++) {
      last = eta.observe({ done: 60 + step, total: 1_000, unit: 'steps' }, 60_000 + step * 10_000);
    }
    expect(last).toBeCloseTo((1_000 - 75) * 10_000, -2);
  });

  it('starts again with another unit', () => {
    const eta = new EtaEstimator();
    eta.observe(steps(1), 0);
    eta.observe(steps(10), 5_000);
    expect(eta.observe({ done: 1, total: 5, unit: 'images' }, 6_000)).toBeUndefined();
  });
});
