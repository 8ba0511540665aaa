import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { callCli, LEASE_DIRECTORY } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const CANARY = 'canary/7f3a91 "quoted"';
const EXTRA_STAGES = fileURLToPath(new URL('../../test/helpers/fake-stages.js', import.meta.url));

it('A secret reaches the stage that names it, and nothing that fr1 prints or records', async () => {
  const folder = await temporaryFolder();
  await writeFile(
    join(folder, 'p.yaml'),
    `env: [CANARY]
stages:
  tells: { uses: fake-write, with: { text: "<\${{ env.CANARY }}>" } }
  after: { uses: fake-count, with: { steps: 2, data: "\${{ stages.tells.outputs.data }}" } }
`,
  );
  const env = { CANARY, FR1_EXTRA_STAGES: EXTRA_STAGES, FR1_LEASE_DIR: LEASE_DIRECTORY };
  const said: string[] = [];
  const commands = [
    ['run', 'p.yaml'],
    ['run', 'p.yaml', '--json', '--force'],
    ['plan', 'p.yaml', '--json', '--set', 'stages.tells.with.text=${{ env.CANARY }}!'],
    ['why', 'p.yaml', 'tells', '--set', 'stages.tells.with.text=${{ env.CANARY }}!'],
    ['graph', 'p.yaml'],
    ['show', 'last', '--json'],
    ['check', 'p.yaml', '--json', '--set', 'stages.tells.with.steps=${{ env.CANARY }}'],
  ];
  for (const command of commands) {
    const { stdout, stderr } = await callCli(folder, command, { env });
    said.push(stdout, stderr);
  }
  const store = join(folder, '.fr1', 'store') + sep;
  let reached = false;
  for (const entry of await readdir(join(folder, '.fr1'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const text = await readFile(file, 'utf8');
    // The stage itself wrote it into its output: that is what it was asked for.
    if (file.startsWith(store)) reached ||= text.includes(CANARY);
    else said.push(text);
  }
  expect(reached).toBe(true);
  const forms = [CANARY, 'canary/7f3a91', encodeURIComponent(CANARY), btoa(CANARY)];
  for (const form of forms) expect(said.filter((text) => text.includes(form))).toEqual([]);
}, 180_000);
