import { describe, expect, it } from 'vitest';
import { PAPER_RESULTS } from './paper-results.ts';
import { asPrinted, averaged, csvTable, markdownTable } from './paper-tables.ts';

/** Averages as printed in the paper: seen, unseen, both. */
const PRINTED = {
  closed: {
    'CLIP-L': [77.1, 67.98, 72.54],
    'EVA-G': [77.39, 69.6, 73.49],
    'SigLIP-L': [88.33, 80.54, 84.44],
    'SigLIP2-L': [77.96, 70.08, 74.02],
    'Idefics2-8B': [69.22, 60.43, 64.83],
    'Idefics3-LLaMA3-8B': [56.43, 54.02, 55.23],
    'LLaVA-v1.6-mistral-7B': [57.9, 52.45, 55.17],
    'LLaVA-Onevision-7B': [63.22, 53.27, 58.24],
    'InternVL2.5-2B': [59.98, 52.67, 56.33],
    'InternVL2.5-4B': [44.4, 39.6, 42.0],
    'InternVL2.5-8B': [60.2, 52.21, 56.2],
    'Qwen2-VL-2B': [77.1, 64.5, 70.8],
    'Qwen2-VL-7B': [82.81, 72.95, 77.88],
    'Qwen2.5-VL-3B': [77.43, 71.94, 74.68],
    'Qwen2.5-VL-7B': [83.98, 76.42, 80.2],
    'DeepPerception-7B': [86.99, 79.24, 83.12],
    'Fine-R1-3B': [88.97, 81.41, 85.19],
    'Fine-R1-7B': [91.71, 85.7, 88.71],
  },
  similarity: {
    'Idefics2-8B': [11.72, 9.73, 10.72],
    'Idefics3-LLaMA3-8B': [26.14, 21.43, 23.79],
    'LLaVA-v1.6-mistral-7B': [13.78, 13.36, 13.57],
    'LLaVA-Onevision-7B': [26.04, 19.69, 22.87],
    'InternVL2.5-2B': [21.9, 18.68, 20.29],
    'InternVL2.5-4B': [26.25, 22.65, 24.45],
    'InternVL2.5-8B': [26.69, 22.8, 24.75],
    'Qwen2-VL-2B': [47.8, 39.83, 43.82],
    'Qwen2-VL-7B': [57.88, 45.12, 51.5],
    'Qwen2.5-VL-3B': [56.1, 45.72, 50.91],
    'Qwen2.5-VL-7B': [56.5, 45.6, 51.05],
    'DeepPerception-7B': [47.23, 40.4, 43.82],
    'Fine-R1-3B': [73.35, 61.29, 67.32],
    'Fine-R1-7B': [82.62, 66.97, 74.8],
  },
  inclusion: {
    'Idefics2-8B': [19.98, 8.35, 14.16],
    'Idefics3-LLaMA3-8B': [11.13, 4.82, 7.98],
    'LLaVA-v1.6-mistral-7B': [11.65, 5.22, 8.44],
    'LLaVA-Onevision-7B': [18.23, 6.7, 12.46],
    'InternVL2.5-2B': [13.95, 6.25, 10.1],
    'InternVL2.5-4B': [15.87, 8.05, 11.96],
    'InternVL2.5-8B': [17.0, 8.84, 12.92],
    'Qwen2-VL-2B': [37.45, 22.13, 29.79],
    'Qwen2-VL-7B': [50.03, 28.94, 39.49],
    'Qwen2.5-VL-3B': [45.18, 26.88, 36.03],
    'Qwen2.5-VL-7B': [57.97, 34.38, 46.17],
    'DeepPerception-7B': [60.42, 34.06, 47.24],
    'Fine-R1-3B': [69.62, 40.17, 54.9],
    'Fine-R1-7B': [78.27, 42.94, 60.61],
  },
} as const;

describe('asPrinted()', () => {
  it.each(['closed', 'similarity', 'inclusion'] as const)('gives the averages that the paper prints: %s', (table) => {
    for (const row of PAPER_RESULTS[table]) {
      const { seenAverage, unseenAverage, average } = asPrinted(row);
      const printed = (PRINTED[table] as Record<string, readonly number[]>)[row.model]!;
      expect([seenAverage, unseenAverage, average], row.model).toEqual(printed);
      // Its ties are rounded up or down.
      expect(Math.abs(averaged(row).average! - printed[2]!)).toBeLessThan(0.011);
    }
  });
});

describe('averaged()', () => {
  it('gives no average of half the data sets', () => {
    const row = { model: 'x', seen: [1, 2, 3, 4, 5, 6], unseen: [1, null, 3, 4, 5, 6] };
    expect(averaged(row)).toMatchObject({ seenAverage: 3.5, unseenAverage: null, average: null });
  });
});

describe('csvTable() and markdownTable()', () => {
  it('quote what would break a row', () => {
    expect(csvTable(['a', 'b'], [['x,y', 'say "z"']])).toBe('a,b\r\n"x,y","say ""z"""\r\n');
    expect(markdownTable(['a'], [['x|y']])).toBe('| a |\n| --- |\n| x\\|y |');
  });
});
