import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { openRewardFunction } from './reward-function.ts';

const ROW = {
  id: 'r1',
  anchor: 'a.png',
  positive: 'b.png',
  negative: 'c.png',
  question: 'Which?',
  label: 'Robin',
  negativeLabel: 'Wren',
};

async function open(code: string) {
  const file = path.join(await temporaryFolder(), 'reward.mjs');
  writeFileSync(file, code);
  return openRewardFunction(file, ROW);
}

describe('openRewardFunction()', () => {
  it('gives what the function gives, its further parts beside', async () => {
    const score = await open(
      'export default async ({ response, label }) => ({ overall: response.includes(label) ? 0.8 : 0.1, brevity: 1 / (1 + response.length) });',
    );
    expect(await score({ response: 'Robin', label: 'Robin', question: '' })).toEqual({
      overall: 0.8,
      accuracy: 1,
      format: 0,
      parts: { brevity: 1 / 6 },
    });
    expect((await score({ response: 'Wren', label: 'Robin', question: '' })).accuracy).toBe(0);
  });

  it.each([
    ['export default 3;', 'DATA_UNREADABLE', 'default export'],
    ['export default (', 'DATA_UNREADABLE', 'cannot be loaded'],
    ['export default () => 1;', 'DATA_ROW_INVALID', 'right answer "Robin" 1, and a wrong one 1'],
    ['export default () => ({ overall: "high" });', 'DATA_ROW_INVALID', 'instead of numbers'],
    ['export default ({ label }) => label.size.x;', 'DATA_ROW_INVALID', 'fails on the response "<think>It shows.'],
    [
      'export default ({ response, label }) => Number(response.match(/<answer>(.*)<\\/answer>/)[1] === label);',
      'DATA_ROW_INVALID',
      'fails on the response "": TypeError',
    ],
    [
      'export default ({ response, label }) => ({ overall: Number(response.includes(label)), accuracy: 100 });',
      'DATA_ROW_INVALID',
      'not between 0 and 1',
    ],
  ])('refuses %s', async (code, error, message) => {
    await expect(open(code)).rejects.toMatchObject({ code: error, message: expect.stringContaining(message) });
  });
});
