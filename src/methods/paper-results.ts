/**
 * The rows of the paper's tables that fr1's tables show beside its own: closed-world accuracy (Table 1), relative similarity x 100
 * (Table 2) and text inclusion (Table 6), each of seen and unseen classes of aircraft, bird, car, dog, flower and pet.
 *
 * NOTE: they were made with other prompts than the released evaluation for the models that the paper compares with, and the closed
 * world listed the right option first.
 *
 * @see Fine-R1, arXiv:2602.07605, tables 1, 2 and 6
 */
export interface PaperRow {
  readonly group: string;
  readonly model: string;
  /** In the order of `PAPER_DATASETS`, in per cent. */
  readonly seen: readonly number[];
  readonly unseen: readonly number[];
  /** The mean of both averages as printed, where it is a tie that was rounded down. */
  readonly average?: number;
}

export const PAPER_DATASETS = ['aircraft', 'bird', 'car', 'dog', 'flower', 'pet'] as const;

export type PaperTable = 'closed' | 'similarity' | 'inclusion';

export const PAPER_RESULTS: Readonly<Record<PaperTable, readonly PaperRow[]>> = {
  closed: [
    {
      group: 'CLIP models',
      model: 'CLIP-L',
      seen: [47.95, 73.96, 80.5, 77.12, 87.59, 95.45],
      unseen: [45.68, 62.35, 79.81, 73.58, 57.24, 89.22],
    },
    {
      group: 'CLIP models',
      model: 'EVA-G',
      seen: [40.96, 81.37, 90.06, 76.02, 81.7, 94.21],
      unseen: [45.83, 63.39, 87.06, 76.66, 54.83, 89.82],
      average: 73.49,
    },
    {
      group: 'CLIP models',
      model: 'SigLIP-L',
      seen: [67.08, 85.1, 96.03, 86.18, 97.59, 98.02],
      unseen: [69.35, 74.17, 92.97, 84.44, 69.07, 93.24],
    },
    {
      group: 'CLIP models',
      model: 'SigLIP2-L',
      seen: [43.36, 71.26, 93.43, 78.51, 89.05, 92.14],
      unseen: [40.87, 58.03, 90.0, 77.15, 61.39, 93.03],
    },
    {
      group: 'General MLLMs',
      model: 'Idefics2-8B',
      seen: [49.9, 52.37, 90.85, 58.24, 82.1, 81.85],
      unseen: [48.53, 40.2, 84.67, 44.79, 60.54, 83.86],
    },
    {
      group: 'General MLLMs',
      model: 'Idefics3-LLaMA3-8B',
      seen: [43.31, 34.51, 75.18, 47.5, 65.12, 72.98],
      unseen: [48.38, 37.47, 70.59, 43.8, 55.3, 68.59],
    },
    {
      group: 'General MLLMs',
      model: 'LLaVA-v1.6-mistral-7B',
      seen: [49.6, 55.96, 71.02, 45.34, 62.86, 62.59],
      unseen: [47.71, 50.32, 67.62, 37.2, 46.16, 65.71],
      average: 55.17,
    },
    {
      group: 'General MLLMs',
      model: 'LLaVA-Onevision-7B',
      seen: [32.07, 54.81, 71.38, 70.72, 73.83, 76.52],
      unseen: [30.43, 52.92, 67.21, 53.78, 48.94, 66.31],
      average: 58.24,
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-2B',
      seen: [36.71, 65.23, 63.4, 53.7, 65.39, 75.46],
      unseen: [40.57, 62.74, 63.53, 42.62, 46.35, 60.21],
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-4B',
      seen: [38.31, 29.54, 51.44, 34.65, 61.44, 51.01],
      unseen: [39.29, 31.29, 44.95, 31.99, 35.83, 54.25],
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-8B',
      seen: [46.7, 53.14, 62.17, 54.26, 68.25, 76.65],
      unseen: [45.38, 47.12, 61.15, 48.82, 47.95, 62.83],
      average: 56.2,
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2-VL-2B',
      seen: [66.18, 60.15, 94.28, 64.67, 91.93, 85.39],
      unseen: [65.51, 44.92, 87.89, 58.6, 50.21, 79.84],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2-VL-7B',
      seen: [78.27, 67.41, 94.6, 71.7, 93.84, 91.04],
      unseen: [79.86, 56.25, 89.63, 66.16, 67.47, 78.3],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2.5-VL-3B',
      seen: [64.24, 65.4, 86.7, 70.51, 94.24, 83.46],
      unseen: [68.29, 58.98, 80.65, 67.1, 68.74, 87.88],
      average: 74.68,
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2.5-VL-7B',
      seen: [74.28, 70.54, 90.75, 80.19, 96.2, 91.91],
      unseen: [71.6, 66.29, 84.02, 77.54, 65.63, 93.44],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'DeepPerception-7B',
      seen: [83.52, 74.16, 94.89, 80.4, 97.05, 91.91],
      unseen: [86.48, 61.19, 89.72, 77.85, 72.8, 87.41],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'Fine-R1-3B',
      seen: [76.87, 86.79, 92.14, 87.85, 96.25, 93.89],
      unseen: [75.73, 79.1, 87.4, 80.93, 73.93, 91.36],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'Fine-R1-7B',
      seen: [82.32, 90.5, 94.03, 90.11, 97.22, 96.05],
      unseen: [77.91, 87.54, 87.99, 89.71, 74.12, 96.92],
    },
  ],
  similarity: [
    {
      group: 'General MLLMs',
      model: 'Idefics2-8B',
      seen: [3.64, 19.68, 19.54, 10.03, 14.94, 2.5],
      unseen: [3.69, 15.35, 20.81, 10.19, 5.84, 2.47],
      average: 10.72,
    },
    {
      group: 'General MLLMs',
      model: 'Idefics3-LLaMA3-8B',
      seen: [9.66, 27.72, 22.96, 35.39, 40.92, 20.17],
      unseen: [7.09, 24.93, 22.08, 27.67, 21.99, 24.84],
    },
    {
      group: 'General MLLMs',
      model: 'LLaVA-v1.6-mistral-7B',
      seen: [2.73, 16.02, 21.75, 19.35, 10.33, 12.47],
      unseen: [2.51, 17.4, 23.24, 18.16, 8.2, 10.62],
    },
    {
      group: 'General MLLMs',
      model: 'LLaVA-Onevision-7B',
      seen: [9.9, 31.74, 21.35, 30.13, 45.24, 17.87],
      unseen: [7.47, 29.81, 19.56, 25.44, 16.53, 19.35],
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-2B',
      seen: [7.26, 21.32, 27.29, 25.87, 23.08, 26.56],
      unseen: [5.22, 20.12, 24.73, 24.84, 12.59, 24.55],
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-4B',
      seen: [14.71, 25.41, 32.19, 33.13, 23.84, 28.19],
      unseen: [12.64, 23.91, 29.11, 30.8, 13.1, 26.32],
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-8B',
      seen: [23.76, 28.44, 30.08, 27.11, 21.73, 29.03],
      unseen: [20.34, 24.38, 27.55, 24.73, 13.56, 26.23],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2-VL-2B',
      seen: [47.49, 48.72, 52.95, 51.22, 66.56, 19.88],
      unseen: [48.88, 39.32, 49.33, 45.16, 33.87, 22.43],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2-VL-7B',
      seen: [56.47, 56.46, 55.31, 67.03, 75.02, 36.97],
      unseen: [52.75, 41.17, 52.46, 61.01, 32.57, 30.74],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2.5-VL-3B',
      seen: [56.98, 66.77, 52.49, 65.12, 68.96, 26.27],
      unseen: [52.5, 48.09, 51.75, 59.02, 34.19, 28.78],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2.5-VL-7B',
      seen: [58.86, 65.97, 56.94, 59.02, 62.61, 35.59],
      unseen: [48.62, 45.26, 55.39, 54.59, 32.74, 36.98],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'DeepPerception-7B',
      seen: [44.24, 47.63, 54.14, 49.16, 47.3, 40.9],
      unseen: [40.03, 37.1, 52.27, 49.05, 28.38, 35.57],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'Fine-R1-3B',
      seen: [54.36, 78.9, 82.46, 78.21, 64.55, 81.6],
      unseen: [46.43, 58.0, 74.6, 70.08, 39.54, 79.11],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'Fine-R1-7B',
      seen: [73.53, 86.12, 90.73, 80.71, 81.46, 83.14],
      unseen: [65.21, 60.69, 82.19, 70.97, 40.74, 82.04],
    },
  ],
  inclusion: [
    {
      group: 'General MLLMs',
      model: 'Idefics2-8B',
      seen: [7.49, 11.02, 17.94, 18.01, 54.27, 11.12],
      unseen: [6.76, 6.01, 13.37, 12.14, 0.38, 11.45],
      average: 14.16,
    },
    {
      group: 'General MLLMs',
      model: 'Idefics3-LLaMA3-8B',
      seen: [3.3, 4.79, 5.57, 17.04, 32.37, 3.72],
      unseen: [3.16, 3.5, 2.97, 9.59, 2.12, 7.57],
    },
    {
      group: 'General MLLMs',
      model: 'LLaVA-v1.6-mistral-7B',
      seen: [2.0, 3.27, 9.85, 16.05, 24.75, 13.97],
      unseen: [2.03, 3.25, 8.39, 9.59, 0.09, 7.97],
    },
    {
      group: 'General MLLMs',
      model: 'LLaVA-Onevision-7B',
      seen: [6.44, 9.27, 21.33, 22.55, 46.5, 3.26],
      unseen: [3.46, 5.54, 15.36, 13.01, 0.14, 2.68],
      average: 12.46,
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-2B',
      seen: [3.9, 6.03, 10.37, 17.13, 25.79, 20.5],
      unseen: [2.33, 4.2, 7.24, 9.41, 1.27, 13.06],
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-4B',
      seen: [8.59, 7.67, 16.98, 19.92, 25.12, 16.91],
      unseen: [7.06, 7.1, 10.96, 11.2, 1.84, 10.11],
    },
    {
      group: 'General MLLMs',
      model: 'InternVL2.5-8B',
      seen: [10.04, 10.97, 12.78, 18.76, 26.34, 23.12],
      unseen: [8.64, 9.0, 8.42, 11.53, 1.79, 13.66],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2-VL-2B',
      seen: [34.37, 25.04, 60.42, 41.32, 59.06, 4.5],
      unseen: [42.9, 8.91, 42.17, 30.42, 3.49, 4.89],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2-VL-7B',
      seen: [45.5, 37.93, 66.16, 53.32, 69.81, 27.48],
      unseen: [51.16, 17.52, 45.6, 41.71, 2.26, 15.41],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2.5-VL-3B',
      seen: [37.96, 48.78, 58.08, 51.19, 61.15, 13.92],
      unseen: [40.8, 22.33, 43.78, 36.62, 5.61, 12.12],
    },
    {
      group: 'General MLLMs',
      model: 'Qwen2.5-VL-7B',
      seen: [46.85, 58.28, 67.14, 68.9, 73.09, 33.55],
      unseen: [44.78, 28.6, 45.88, 49.03, 10.8, 27.19],
      average: 46.17,
    },
    {
      group: 'Reasoning MLLMs',
      model: 'DeepPerception-7B',
      seen: [40.66, 47.63, 66.62, 64.78, 75.47, 67.37],
      unseen: [42.37, 21.33, 47.28, 48.21, 5.04, 40.12],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'Fine-R1-3B',
      seen: [47.3, 66.09, 71.15, 73.45, 77.16, 82.58],
      unseen: [37.27, 30.68, 45.73, 49.79, 16.5, 61.02],
    },
    {
      group: 'Reasoning MLLMs',
      model: 'Fine-R1-7B',
      seen: [63.44, 75.22, 78.88, 78.41, 86.92, 86.76],
      unseen: [44.85, 29.77, 51.52, 51.24, 10.37, 69.86],
    },
  ],
};
