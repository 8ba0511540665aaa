/**
 * Does what docs/plugins.md says, as a new user would: fr1 packed and installed in an empty folder, the page's examples
 * written down and run, a stage made by `fr1 new stage`, tested, packed and installed in a third place.
 *
 *   npm run test:plugins          needs npm's registry; about a minute
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { execaSync } from 'execa';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const home = mkdtempSync(path.join(tmpdir(), 'fr1-plugins-'));

function run(cwd, command, args, { exitCode = 0, shows = [] } = {}) {
  console.log(`$ ${[command, ...args].join(' ')}`);
  const result = execaSync(command, args, { cwd, all: true, reject: false, preferLocal: true, env: { CI: 'true' } });
  const missing = shows.filter((text) => !result.all.includes(text));
  if (result.exitCode === exitCode && missing.length === 0) return result;
  throw new Error(`ended with ${result.exitCode}, lacks ${JSON.stringify(missing)}:\n${result.all}`);
}

function project(name, packages) {
  const folder = path.join(home, name);
  mkdirSync(folder);
  run(folder, 'npm', ['init', '-y']);
  run(folder, 'npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--save-dev', ...packages]);
  return folder;
}

/** The page's examples that begin with a file name in a comment. */
function writeExamples(folder) {
  const page = readFileSync(path.join(ROOT, 'docs/plugins.md'), 'utf8');
  const names = [];
  for (const [, name, text] of page.matchAll(/```\w+\n(?:\/\/|#) ([\w.-]+\.\w+)\n(.*?)```/gs)) {
    writeFileSync(path.join(folder, name), text);
    names.push(name);
  }
  return names;
}

function packed(folder) {
  const { stdout } = run(folder, 'npm', ['pack', '--json', '--pack-destination', home]);
  return path.join(home, JSON.parse(stdout.slice(stdout.indexOf('[')))[0].filename);
}

try {
  const fr1 = packed(ROOT);
  const first = project('first', [fr1, 'typescript', '@types/node']);

  const names = writeExamples(first);
  if (names.join() !== 'shout.ts,shout.yaml,shout.test.ts,count.yaml,count.py') throw new Error(`examples: ${names}`);
  mkdirSync(path.join(first, 'words'));
  writeFileSync(path.join(first, 'words', 'text.txt'), 'hello\n');
  run(first, 'fr1', ['run', 'shout.yaml'], { shows: ['HELLO!!!', 'letters 8'] });
  run(first, 'fr1', ['run', 'shout.yaml'], { shows: ['everything cached'] });
  run(first, 'node', ['--import', 'fr1/register', '--test', 'shout.test.ts'], { shows: ['# pass 1'] });
  run(first, 'fr1', ['run', 'count.yaml'], { shows: ['counted 1', 'words 1'] });

  run(first, 'fr1', ['new', 'stage', 'stages/few-shot']);
  const stage = path.join(first, 'stages/few-shot');
  run(stage, 'fr1', ['run', 'example/pipeline.yaml'], { shows: ['kept 8 of 16 images'] });
  run(stage, 'npm', ['test'], { shows: ['# pass 3'] });
  run(stage, 'npm', ['run', 'check']);
  run(stage, 'fr1', ['stages', './'], { shows: ['perClass: integer >= 1, default 2'] });

  const wrong = path.join(first, 'stages/wrong');
  cpSync(stage, wrong, { recursive: true });
  const text = readFileSync(path.join(wrong, 'stage.ts'), 'utf8');
  writeFileSync(path.join(wrong, 'stage.ts'), text.replaceAll('options.perClass', 'options.perClas'));
  run(wrong, 'npm', ['run', 'check'], { exitCode: 1, shows: ["Did you mean 'perClass'?"] });

  const second = project('second', [fr1, packed(stage)]);
  const example = readFileSync(path.join(stage, 'example/pipeline.yaml'), 'utf8');
  writeFileSync(path.join(second, 'p.yaml'), example.replace('uses: ../', 'uses: fr1-stage-few-shot'));
  run(second, 'fr1', ['run', 'p.yaml'], { shows: ['kept 8 of 16 images'] });
  run(second, 'fr1', ['schema', 'p.yaml'], { shows: ['options-fr1-stage-few-shot', 'perClass'] });
  run(second, 'fr1', ['check', 'p.yaml', '--set', 'stages.chosen.with.perClas=1'], {
    exitCode: 2,
    shows: ['did you mean "perClass"?'],
  });
  console.log('everything is as docs/plugins.md says');
} finally {
  rmSync(home, { recursive: true, force: true });
}
