/**
 * What the user can get wrong, through the built CLI: always exit code 2, place, cause and hint, never a stack trace and
 * never a half-done result.
 */
import { cp, mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { beforeEach, describe, expect, it } from 'vitest';
import { startCli } from '../helpers/cli.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const TINY = fileURLToPath(new URL('../../models/fr1-tiny', import.meta.url));
const STACK_FRAME = /^\s+at /m;

let folder: string;

beforeEach(async () => {
  folder = await temporaryFolder();
});

interface Refusal {
  readonly exitCode: number | undefined;
  readonly text: string;
}

async function refusalOf(yaml: string | null, ...argv: readonly string[]): Promise<Refusal> {
  if (yaml !== null) await writeFile(join(folder, 'p.yaml'), yaml);
  const { exitCode, stderr, stdout } = await startCli(folder, argv.length > 0 ? argv : ['run', 'p.yaml']);
  expect(String(stdout) + String(stderr)).not.toMatch(STACK_FRAME);
  return { exitCode, text: String(stderr) };
}

/** `1-based line:column` of the first `mark` in the text; the mark starts a word of its own in each case below. */
function placeOf(yaml: string, mark: string): string {
  const at = yaml.indexOf(mark);
  if (at === -1) throw new Error(`the pipeline has no ${mark}`);
  const before = yaml.slice(0, at).split('\n');
  return `${before.length}:${before.at(-1)!.length + 1}`;
}

interface WrongPipeline {
  readonly situation: string;
  readonly yaml: string;
  /** Text at which the error must point. */
  readonly mark: string;
  readonly code: string;
  readonly cause: RegExp;
  readonly hint: RegExp;
}

const BIRDS = 'birds: { uses: dataset, with: { source: procedural-birds } }';
const SFT = "data: '${{ stages.thoughts.outputs.data }}'";
const THOUGHTS = `thoughts: { uses: rewrite, with: { data: '\${{ stages.birds.outputs.sft }}' } }`;

const WRONG_PIPELINES: readonly WrongPipeline[] = [
  {
    situation: 'an unknown key',
    yaml: 'stages:\n  birds:\n    uses: dataset\n    with:\n      source: procedural-birds\n      testImage: 8\n',
    mark: 'testImage',
    code: 'KEY_UNKNOWN',
    cause: /stage "birds": there is no option "testImage"/,
    hint: /did you mean "testImages"\?/,
  },
  {
    situation: 'an unknown kind of stage',
    yaml: `stages:\n  ${BIRDS}\n  fit: { uses: rewrit }\n`,
    mark: 'rewrit',
    code: 'STAGE_KIND_UNKNOWN',
    cause: /stage "fit" uses "rewrit", but there is no such kind of stage/,
    hint: /did you mean "rewrite"\?/,
  },
  {
    situation: 'a reference to an unknown stage',
    yaml: `stages:\n  ${BIRDS}\n  thoughts: { uses: rewrite, with: { data: "\${{ stages.brids.outputs.sft }}" } }\n`,
    mark: 'brids',
    code: 'STAGE_UNKNOWN',
    cause: /there is no stage "brids"/,
    hint: /did you mean "birds"\?/,
  },
  {
    situation: 'a reference to an output that is not there',
    yaml: `stages:\n  ${BIRDS}\n  thoughts: { uses: rewrite, with: { data: "\${{ stages.birds.outputs.stf }}" } }\n`,
    mark: 'stf',
    code: 'OUTPUT_UNKNOWN',
    cause: /no output "stf"/,
    hint: /its outputs: sft, rl, seen, unseen/,
  },
  {
    situation: 'an output that the options of its stage leave empty',
    yaml: `stages:\n  birds: { uses: dataset, with: { source: procedural-birds, sftShots: 0 } }\n  ${THOUGHTS}\n`,
    mark: "'${{ stages.birds.outputs.sft",
    code: 'OUTPUT_EMPTY',
    cause: /option "data" takes stages\.birds\.outputs\.sft, which will hold nothing: sftShots is 0/,
    hint: /so that it fills sft, or take stages\.birds\.outputs\.rl/,
  },
  {
    situation: 'a variable that is not defined',
    yaml: `vars: { shots: 2 }\nstages:\n  birds: { uses: dataset, with: { source: procedural-birds, sftShots: "\${{ vars.shot }}" } }\n`,
    mark: 'shot }}',
    code: 'VARIABLE_UNKNOWN',
    cause: /"shot"/,
    hint: /did you mean "shots"\?/,
  },
  {
    situation: 'a required option that is missing',
    yaml: `stages:\n  ${BIRDS}\n  ${THOUGHTS}\n  fit:\n    uses: sft\n    with: { ${SFT}, steps: 1 }\n`,
    mark: "with: { data: '${{ stages.thoughts",
    code: 'KEY_MISSING',
    cause: /stage "fit": option "model" is missing/,
    hint: /model: The model to start from/,
  },
  {
    situation: 'a cycle, which is shown whole',
    yaml: [
      'stages:',
      `  ${BIRDS}`,
      ...['one: { needs: [three]', 'two: { needs: [one]', 'three: { needs: [two]'].map(
        (start) => `  ${start}, uses: rewrite, with: { data: "\${{ stages.birds.outputs.sft }}" } }`,
      ),
    ].join('\n'),
    mark: 'three]',
    code: 'STAGE_CYCLE',
    cause: /one -> three -> two -> one/,
    hint: /remove one of these references/,
  },
  {
    situation: 'a value of the wrong type',
    yaml: 'stages:\n  birds:\n    uses: dataset\n    with: { source: procedural-birds, testImages: many }\n',
    mark: 'many',
    code: 'VALUE_TYPE',
    cause: /option "testImages" must be a whole number, but is the text "many"/,
    hint: /testImages: Test images per split.*400 where it is not given/,
  },
  {
    situation: 'a number out of range',
    yaml: 'stages:\n  birds:\n    uses: dataset\n    with: { source: procedural-birds, seenClasses: 0 }\n',
    mark: '0 ',
    code: 'VALUE_RANGE',
    cause: /option "seenClasses" must be at least 2, but is 0/,
    hint: /seenClasses: Classes that training may use/,
  },
  {
    situation: 'YAML that cannot be read',
    yaml: 'stages:\n  birds: { uses: dataset, with: { source: procedural-birds }\n  other: 1\n',
    mark: 'other',
    code: 'YAML_SYNTAX',
    cause: /flow map/,
    hint: /bracket, quote or indentation/,
  },
  {
    situation: 'a folder that does not exist',
    yaml: `stages:\n  ${BIRDS}\n  ${THOUGHTS}\n  fit:\n    uses: sft\n    with: { model: ./none, ${SFT}, steps: 1 }\n`,
    mark: './none',
    code: 'INPUT_MISSING',
    cause: /there is no folder \.\/none/,
    hint: /paths start at the pipeline file's folder/,
  },
];

describe('a wrong pipeline', () => {
  it.each(WRONG_PIPELINES)('is refused before anything runs: $situation', async (wrong) => {
    for (const command of ['run', 'check']) {
      const { exitCode, text } = await refusalOf(wrong.yaml, command, 'p.yaml');
      expect(exitCode, text).toBe(2);
      expect(text).toContain(`p.yaml:${placeOf(wrong.yaml, wrong.mark)}  error[${wrong.code}]`);
      expect(text).toMatch(wrong.cause);
      expect(text).toMatch(new RegExp(`hint: .*${wrong.hint.source}`));
    }
  });

  it('is refused when its file is missing', async () => {
    const { exitCode, text } = await refusalOf(null, 'run', 'none.yaml');
    expect(exitCode).toBe(2);
    expect(text).toContain('none.yaml:1:1  error[PIPELINE_FILE_MISSING]');
    expect(text).toMatch(/there is no file none\.yaml\n\s+hint: /);
  });
});

const EVAL = `stages:
  test:
    uses: eval
    with:
      model: ./bird
      data: { seen: ./seen, unseen: ./unseen }
      prompts: compact
      maxNewTokens: 4
`;

/** Two rows about images of one colour each. */
async function writeTestSet(name: string): Promise<void> {
  const target = join(folder, name);
  await mkdir(join(target, 'images'), { recursive: true });
  const rows = ['a', 'b'].map((id) => ({
    id: `${name}-${id}`,
    image: `images/${id}.png`,
    label: 'Red Wren',
    question: 'Which bird is it?',
    options: ['Red Wren', 'Blue Wren'],
  }));
  for (const { image } of rows) {
    const picture = sharp({ create: { width: 112, height: 112, channels: 3, background: '#a03020' } });
    await picture.png().toFile(join(target, image));
  }
  const info = { name, superCategory: 'bird', split: name, classes: ['Red Wren', 'Blue Wren'], rows: 2 };
  await writeFile(join(target, 'dataset.json'), JSON.stringify(info));
  await writeFile(join(target, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}

async function writeModel(): Promise<void> {
  await cp(TINY, join(folder, 'bird'), { recursive: true });
}

describe('a wrong artifact', () => {
  beforeEach(async () => {
    await writeModel();
    await writeTestSet('seen');
    await writeTestSet('unseen');
  });

  it('is none when nothing is wrong: the untouched folders are answered', async () => {
    const { exitCode, text } = await refusalOf(EVAL);
    expect(exitCode, text).toBe(0);
  });

  it('is told at the option `model`: shapes that config.json contradicts', async () => {
    const path = join(folder, 'bird', 'config.json');
    const config = await readFile(path, 'utf8');
    const wider = config.replace(/"intermediate_size": \d+/g, '"intermediate_size": 640');
    expect(wider).not.toBe(config);
    await writeFile(path, wider);
    const { exitCode, text } = await refusalOf(EVAL);
    expect(exitCode, text).toBe(2);
    expect(text).toContain('stage "test" failed:');
    expect(text).toContain(`p.yaml:${placeOf(EVAL, './bird')}  error[CHECKPOINT_MISMATCH]`);
    expect(text).toMatch(/mlp\.\w+\.weight is \[[\d, ]+\], expected \[[\d, ]*640[\d, ]*\]/);
    expect(text).toMatch(/hint: config\.json and the weights come from different models/);
  });

  it('is told at the option `model`: a safetensors file that was cut off', async () => {
    await truncate(join(folder, 'bird', 'model.safetensors'), 100_000);
    const { exitCode, text } = await refusalOf(EVAL);
    expect(exitCode, text).toBe(2);
    expect(text).toContain(`p.yaml:${placeOf(EVAL, './bird')}  error[SAFETENSORS_TRUNCATED]`);
    expect(text).toMatch(/model\.safetensors is cut off: \d+ bytes expected, 100000 bytes present/);
    expect(text).toMatch(/hint: the download or copy did not finish/);
  });

  it('is told with the row: a broken image in a test set', async () => {
    await writeFile(join(folder, 'unseen', 'images', 'b.png'), 'not a picture');
    const { exitCode, text } = await refusalOf(EVAL);
    expect(exitCode, text).toBe(2);
    expect(text).toContain(`p.yaml:${placeOf(EVAL, './unseen')}  error[IMAGE_UNREADABLE]`);
    expect(text).toMatch(/test set "unseen", row "unseen-b" \(.*b\.png\)/);
    expect(text).toMatch(/hint: /);
  });

  it('is no match for the adapter: a layer that the model lacks is told at its name in the list', async () => {
    const adapter = 'adapter: { kind: lora, targetModules: [q_proj, vproj] }';
    const sft = `  fit:\n    uses: sft\n    with: { model: ./bird, ${SFT}, steps: 1, ${adapter} }\n`;
    const yaml = `stages:\n  ${BIRDS}\n  ${THOUGHTS}\n${sft}`;
    const { exitCode, text } = await refusalOf(yaml, 'check', 'p.yaml');
    expect(exitCode, text).toBe(2);
    expect(text).toContain(`p.yaml:${placeOf(yaml, 'vproj')}  error[ADAPTER_TARGET_UNKNOWN]`);
    expect(text).toMatch(/is called "vproj"; they are .*q_proj/);
  });

  it('is told at its own file and line: a row that is not JSON', async () => {
    const rows = join(folder, 'seen', 'rows.jsonl');
    await writeFile(rows, `${(await readFile(rows, 'utf8')).split('\n')[0]}\n{"id": \n`);
    const { exitCode, text } = await refusalOf(EVAL);
    expect(exitCode, text).toBe(2);
    expect(text).toContain(`${rows}:2:1  error[DATA_ROW_INVALID]`);
    expect(text).toContain(`the folder is given as \`data.seen\` at p.yaml:${placeOf(EVAL, './seen')}`);
  });

  it('is told with the chat: a broken image in data for fine-tuning', async () => {
    await mkdir(join(folder, 'chats', 'images'), { recursive: true });
    const messages = [
      { role: 'user', content: '<image>Which bird is it?' },
      { role: 'assistant', content: '<think>It is red.</think><answer>Red Wren</answer>' },
    ];
    const chats = ['seen', 'broken'].map((name) => ({ messages, images: [`images/${name}.png`] }));
    await writeFile(join(folder, 'chats', 'data.json'), JSON.stringify(chats));
    await cp(join(folder, 'seen', 'images', 'a.png'), join(folder, 'chats', 'images', 'seen.png'));
    const whole = await readFile(join(folder, 'seen', 'images', 'b.png'));
    await writeFile(join(folder, 'chats', 'images', 'broken.png'), whole.subarray(0, whole.length / 2));
    const yaml = 'stages:\n  fit: { uses: sft, with: { model: ./bird, data: ./chats, steps: 1 } }\n';
    const { exitCode, text } = await refusalOf(yaml);
    expect(exitCode, text).toBe(2);
    expect(text).toContain(`p.yaml:${placeOf(yaml, './chats')}  error[IMAGE_UNREADABLE]`);
    expect(text).toMatch(/data\.json: chat 1: .*broken\.png cannot be read as an image/);
    expect(text).toMatch(/hint: /);
  });

  it('leaves the workspace usable: the same command works once the folder is mended', async () => {
    const image = join(folder, 'seen', 'images', 'a.png');
    const whole = await readFile(image);
    await writeFile(image, 'not a picture');
    expect((await refusalOf(EVAL)).exitCode).toBe(2);
    await writeFile(image, whole);
    expect((await refusalOf(EVAL)).exitCode).toBe(0);
  });
});
