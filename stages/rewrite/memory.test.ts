import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openProcessor, type Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { teacherPlan } from './memory.ts';
import { captionPrompt } from './teacher-prompts.ts';

const TEACHER = fileURLToPath(new URL('../../models/fr1-tiny', import.meta.url));

let processor: Processor;
let folder: string;

beforeAll(async () => {
  processor = await openProcessor(TEACHER);
});

beforeEach(async () => {
  folder = await temporaryFolder();
  const image = sharp({ create: { width: 112, height: 112, channels: 3, background: 'red' } });
  await image.png().toFile(`${folder}/a.png`);
});

const planFor = (count: number, options: { concepts?: number; teacher?: { maxNewTokens?: number } } = {}) => {
  const rows = Array.from({ length: count }, (_, i) => ({
    id: `row-${i}`,
    image: 'a.png',
    label: 'Red Wren',
    question: 'Which bird is it?',
  }));
  const info = { name: 'birds', superCategory: 'bird', split: 'train' as const, classes: ['Red Wren'], rows: count };
  return teacherPlan(TEACHER, folder, { info, rows }, { teacher: {}, ...options }, processor);
};

describe('teacherPlan()', () => {
  it('answers eight calls at a time, or as many as there are rows', async () => {
    const { generation, imageBytes } = await planFor(20);
    expect(generation).toMatchObject({ prompts: 8, samplesPerPrompt: 1, maxNewTokens: 1536 });
    expect(imageBytes).toBe(8 * 64 * 1176 * 4);
    expect((await planFor(3)).generation!.prompts).toBe(3);
  });

  it('holds the prompt of a thought, which is longer than that of a caption and grows with the concepts', async () => {
    const tokens = async (concepts: number) => (await planFor(1, { concepts })).generation!.prompt.tokens;
    expect(await tokens(1)).toBeGreaterThan(processor.encode(captionPrompt('bird', 0)).length);
    expect((await tokens(9)) - (await tokens(5))).toBe((await tokens(5)) - (await tokens(1)));
  });

  it('has the limit of tokens that the teacher is given', async () => {
    expect((await planFor(1, { teacher: { maxNewTokens: 64 } })).generation!.maxNewTokens).toBe(64);
  });
});
