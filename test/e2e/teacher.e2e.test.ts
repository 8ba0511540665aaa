/**
 * Chains of thought from a misbehaving endpoint, through the real CLI: 10 % failures, stalls and rate limits, and two kills.
 * FR1_TEACHER_ROWS sets the number of rows.
 */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import { readSftData, writeDataset } from '../../src/artifacts/rows.ts';
import { writeImage } from '../../stages/testing/images.ts';
import { startCli } from '../helpers/cli.ts';
import { goodThought, startTeacherServer } from '../helpers/teacher-server.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const ROWS = Number(process.env['FR1_TEACHER_ROWS'] ?? 80);
const KEY = 'sk-secret-9876543210';
const CONCURRENCY = 16;

const PIPELINE = (url: string) => `
name: teacher
stages:
  thoughts:
    uses: rewrite
    with:
      data: ./data
      captions: 1
      attempts: 3
      teacher: { kind: openai, baseUrl: ${url}, model: bird-teacher, apiKeyEnv: FR1_TEST_KEY }
      requests: { concurrency: ${CONCURRENCY}, timeoutSeconds: 2, inputPrice: 2, outputPrice: 8 }
`;

it('finishes, asks for nothing twice after two kills, and tells cost and rejects but no key', {
  timeout: 240_000,
}, async () => {
  vi.stubEnv('FR1_TEST_KEY', KEY);
  const folder = await temporaryFolder();
  const labels = Array.from({ length: 40 }, (_, i) => `Finch Number ${i}`);
  const rows = Array.from({ length: ROWS }, (_, i) => ({
    id: `row-${i}`,
    image: `images/${i % 40}.png`,
    label: labels[i % 40]!,
    question: 'Which bird is it?',
  }));
  for (let i = 0; i < 40; i++) await writeImage(path.join(folder, 'data/images', `${i}.png`), String(i));
  const info = { name: 'birds', superCategory: 'bird', split: 'train', classes: labels } as const;
  await writeDataset(path.join(folder, 'data'), info, rows);
  // One class in 40 never gets a thought that passes; every 17th thought of the others is wrong.
  await using server = await startTeacherServer({
    failing: 0.1,
    thoughtAbout: (label, attempt) => (label === labels[7] || attempt % 17 === 3 ? goodThought('Dodo') : null),
  });
  await writeFile(path.join(folder, 'p.yaml'), PIPELINE(server.url));

  const paid = new Set<string>();
  let requestsBefore = 0;
  for (const share of [0.3, 0.8]) {
    const child = startCli(folder, ['run', 'p.yaml'], { timeoutMs: 200_000 });
    while (server.answered < share * 2 * ROWS) await sleep(5);
    child.kill('SIGKILL');
    await child;
    const asked = server.requests.slice(requestsBefore);
    expect(asked.filter((id) => paid.has(id))).toEqual([]);
    for (const id of await loggedIds(folder)) paid.add(id);
    requestsBefore = server.requests.length;
  }
  expect(paid.size).toBeGreaterThan(0.5 * 2 * ROWS);
  const { exitCode, stdout, stderr } = await startCli(folder, ['run', 'p.yaml'], { timeoutMs: 200_000 });
  expect({ exitCode, stderr: String(stderr) }).toMatchObject({ exitCode: 0 });
  expect(server.requests.slice(requestsBefore).filter((id) => paid.has(id))).toEqual([]);
  if (process.env['FR1_TEACHER_ROWS'] !== undefined) {
    // Answers that were on their way when the process was killed are lost: 2 x concurrency at most.
    const lost = server.answered - new Set(server.requests).size;
    console.log(`${server.requests.length} requests, ${server.answered} answers, ${lost} asked for again\n${stdout}`);
  }

  const output = await outputOf(folder);
  const chats = await readSftData(output);
  const rejects = (await readFile(path.join(output, 'rejected.jsonl'), 'utf8')).trim().split('\n');
  expect(rejects.length).toBe(rows.filter(({ label }) => label === labels[7]).length);
  expect(chats.length + rejects.length).toBe(ROWS);
  expect(String(stdout)).toMatch(/cost/);
  expect(String(stdout)).toContain('the prediction is not the label');
  for (const file of await filesBelow(folder)) expect(await readFile(file, 'latin1')).not.toContain(KEY);
  expect(String(stdout)).not.toContain(KEY);
});

/** Ids of the answers that the unfinished stage has written down. */
async function loggedIds(folder: string): Promise<string[]> {
  const logs = (await filesBelow(path.join(folder, '.fr1/work'))).filter((file) => file.endsWith('calls.jsonl'));
  const text = (await Promise.all(logs.map((file) => readFile(file, 'utf8')))).join('');
  return [...text.matchAll(/\[([0-9a-f]{12})\]/g)].map(([, id]) => id!);
}

async function outputOf(folder: string): Promise<string> {
  const file = (await filesBelow(path.join(folder, '.fr1/store'))).find((each) => each.endsWith('rejected.jsonl'));
  return path.dirname(file!);
}

async function filesBelow(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true });
  const files = [];
  for (const name of names) if ((await stat(path.join(folder, name))).isFile()) files.push(path.join(folder, name));
  return files;
}
