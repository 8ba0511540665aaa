import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const TINY = fileURLToPath(new URL('../../models/fr1-tiny', import.meta.url));
const ANSWER = '<think>a red crown</think><answer>Kite</answer>';

let folder: string;

beforeEach(async () => {
  folder = await temporaryFolder();
});

/** A folder of chats about one image each. */
async function writeChats(chats: readonly { image: string; answer: string }[]): Promise<void> {
  await mkdir(join(folder, 'chats', 'images'), { recursive: true });
  const png = await sharp({ create: { width: 112, height: 112, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  await writeFile(join(folder, 'chats', 'images', 'red.png'), png);
  await writeFile(join(folder, 'chats', 'images', 'cut.png'), png.subarray(0, 60));
  const rows = chats.map(({ image, answer }) => ({
    messages: [
      { role: 'user', content: '<image>Which bird is this?' },
      { role: 'assistant', content: answer },
    ],
    images: [`images/${image}`],
  }));
  await writeFile(join(folder, 'chats', 'data.json'), JSON.stringify(rows));
}

async function writeTriplets(rows: readonly { label: string; negativeLabel: string }[]): Promise<void> {
  await mkdir(join(folder, 'triplets', 'images'), { recursive: true });
  await writeFile(join(folder, 'triplets', 'images', 'a.png'), 'not looked at without the model');
  const info = { name: 'x', superCategory: 'bird', split: 'train', classes: ['Kite', 'Red Kite'], rows: rows.length };
  await writeFile(join(folder, 'triplets', 'dataset.json'), JSON.stringify(info));
  const lines = rows.map((row, i) => {
    const images = { anchor: 'images/a.png', positive: 'images/a.png', negative: 'images/a.png' };
    return JSON.stringify({ id: `r${i}`, ...images, question: 'Which bird?', ...row });
  });
  await writeFile(join(folder, 'triplets', 'rows.jsonl'), `${lines.join('\n')}\n`);
}

async function check(stages: string, ...flags: readonly string[]) {
  await writeFile(join(folder, 'p.yaml'), stages);
  return callCli(folder, ['check', 'p.yaml', ...flags]);
}

const SFT = `stages: { sft: { uses: sft, with: { model: ${TINY}, data: ./chats, steps: 1, maxTokens: 128 } } }\n`;

describe('fr1 check', () => {
  it('looks at every chat and says what it found', async () => {
    await writeChats([{ image: 'red.png', answer: ANSWER }]);
    const { stdout, exitCode } = await check(SFT);
    expect(stdout).toMatch(/sft: 2\.2 M weights, 1 chats of at most \d+ tokens/);
    expect(stdout).toMatch(/disk: .* free, about .* needed/);
    expect(exitCode).toBe(0);
  });

  it('tells of each chat that is wrong, at the option that names the data', async () => {
    await writeChats([
      { image: 'cut.png', answer: ANSWER },
      { image: 'red.png', answer: ANSWER },
      { image: 'red.png', answer: 'long '.repeat(200) },
    ]);
    const { stdout, stderr, exitCode } = await check(SFT);
    expect(exitCode).toBe(2);
    expect(stdout).toContain('sft: 2 problems; 2.2 M weights');
    expect(stderr).toMatch(/p\.yaml:1:\d+ {2}error\[IMAGE_UNREADABLE\]\n.*chat 0/);
    expect(stderr).toMatch(/error\[DATA_ROW_INVALID\]\n.*chat 2: it has \d+ tokens, more than maxTokens/);
    expect((await check(SFT, '--no-data')).exitCode).toBe(0);
  });

  it('tells of a model folder that is not whole', async () => {
    await writeChats([{ image: 'red.png', answer: ANSWER }]);
    await mkdir(join(folder, 'model'));
    await writeFile(join(folder, 'model', 'config.json'), '{}');
    const { stderr, exitCode } = await check(SFT.replace(TINY, './model'));
    expect(stderr).toMatch(/p\.yaml:1:\d+ {2}error\[MODEL_CONFIG_INVALID\]/);
    expect(exitCode).toBe(2);
  });

  it('tells of labels that the reward cannot tell apart', async () => {
    await writeTriplets([
      { label: 'Kite', negativeLabel: 'Heron' },
      { label: 'Kite', negativeLabel: 'Red Kite' },
    ]);
    const tapo = (rule: string) =>
      `stages: { sft: { uses: sft, with: { model: ${TINY}, data: ./chats, steps: 1 } }, ` +
      `tapo: { uses: tapo, with: { model: "\${{ stages.sft.outputs.model }}", data: ./triplets, steps: 1, rewardRule: ${rule} } } }\n`;
    await writeChats([{ image: 'red.png', answer: ANSWER }]);
    const loose = await check(tapo('containment'));
    expect(loose.stdout).toContain('2 triplets, 1 of them also rewarded for the label of their negative');
    expect(loose.exitCode).toBe(0);
    const strict = await check(tapo('exact'));
    expect(strict.stdout).toContain('tapo: 2 triplets, each rewarded for its label alone; model made later');
  });

  it('asks for the declared secrets, and never shows them', async () => {
    await writeChats([{ image: 'red.png', answer: ANSWER }]);
    await rm(join(folder, 'chats', 'images'), { recursive: true });
    const missing = await check(`env: [CANARY]\n${SFT.replace('steps: 1', 'steps: 1, seed: "${{ env.CANARY }}"')}`);
    expect(missing.stderr).toContain('VALUE_TYPE');
    const canary = 'canary-7f3a91';
    await writeFile(
      join(folder, 'p.yaml'),
      'env: [CANARY, OTHER]\nstages: { w: { uses: fake-write, with: { text: "${{ env.CANARY }} ${{ env.OTHER }}" } } }\n',
    );
    const env = {
      CANARY: canary,
      FR1_EXTRA_STAGES: fileURLToPath(new URL('../../test/helpers/fake-stages.js', import.meta.url)),
    };
    const unset = await callCli(folder, ['check', 'p.yaml'], { env });
    expect(unset.stderr).toMatch(/p\.yaml:1:15 {2}error\[ENV_MISSING\]\n {2}the environment variable OTHER is not set/);
    expect(unset.stdout + unset.stderr).not.toContain(canary);
    expect(unset.exitCode).toBe(2);
  });

  it('knows results made with the same threads, and refuses a device as `fr1 run` would', async () => {
    await writeFile(
      join(folder, 'p.yaml'),
      'stages: { pre: { uses: pretrain, with: { world: procedural-birds, images: 2, batchSize: 2, microBatchSize: 2, architecture: ' +
        '{ hiddenSize: 48, layers: 1, heads: 2, keyValueHeads: 1, intermediateSize: 32, visionHiddenSize: 16, visionLayers: 1, ' +
        'visionHeads: 2, visionIntermediateSize: 16 } } } }\n',
    );
    const env = { FR1_LEASE_DIR: 'off' };
    const ran = await callCli(folder, ['run', 'p.yaml', '--threads', '1'], { env });
    expect(ran.exitCode).toBe(0);
    expect((await callCli(folder, ['check', 'p.yaml', '--threads', '1'])).stdout).toContain('pre: cached');
    expect((await callCli(folder, ['check', 'p.yaml', '--threads', '3'])).stdout).not.toContain('cached');
    const { stderr, exitCode } = await callCli(folder, ['check', 'p.yaml', '--device', 'cuda:77']);
    expect(stderr).toContain('error[DEVICE_UNAVAILABLE]');
    expect(exitCode).toBe(2);
  });
});
