import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RandomStream } from '../engine/random.ts';
import { formatError } from '../errors/format.ts';
import { Fr1Errors } from '../errors/fr1-error.ts';
import { planPipeline } from '../plan/plan.ts';
import { loadPipeline } from './load.ts';
import { STAGE_KINDS } from './testing/stage-kinds.ts';

const VALID = readFileSync(
  fileURLToPath(new URL('../../test/fixtures/pipelines/valid/pipeline.yaml', import.meta.url)),
  'utf8',
);
/** What is put in, the same as in the fuzzing of the CLI. */
const PIECES = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../test/fuzz/pieces.json', import.meta.url)), 'utf8'),
) as readonly string[];

const ROUNDS = 300;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-fuzz-'));
  mkdirSync(path.join(folder, 'checkpoint'));
  writeFileSync(path.join(folder, 'checkpoint', 'config.json'), '{}');
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** The text with a few pieces removed, doubled or put in. */
function damaged(text: string, random: RandomStream): string {
  let result = text;
  for (let n = 1 + random.integer(3); n > 0; n--) {
    const start = random.integer(result.length);
    const end = start + random.integer(12);
    const put = random.choice([() => '', () => random.choice(PIECES), () => result.slice(start, end).repeat(2)]);
    result = result.slice(0, start) + put() + result.slice(random.choice([start, end]));
  }
  return result;
}

async function outcome(text: string, sets: readonly string[]): Promise<unknown> {
  writeFileSync(path.join(folder, 'p.yaml'), text);
  try {
    planPipeline(await loadPipeline({ file: 'p.yaml', sets, stages: STAGE_KINDS, cwd: folder }));
    return undefined;
  } catch (error) {
    return error;
  }
}

describe('loadPipeline() on damaged text', () => {
  it('answers every damage of the file or of an override with placed problems or a pipeline', async () => {
    let failures = 0;
    for (let seed = 0; seed < ROUNDS; seed++) {
      const random = new RandomStream(seed, 'damage');
      const text = random.uniform() < 0.8 ? damaged(VALID, random) : VALID;
      const sets = text === VALID ? [damaged('stages.early.with.schedule={ kind: cosine }', random)] : [];
      const error = await outcome(text, sets);
      if (error === undefined) continue;
      failures++;
      expect(error, `seed ${seed}\n${sets}\n${text}\n${(error as Error).stack}`).toBeInstanceOf(Fr1Errors);
      const { errors } = error as Fr1Errors;
      expect(errors.length).toBeGreaterThan(0);
      for (const { at, message } of errors) {
        expect(at, `seed ${seed}: ${message}`).toBeDefined();
        expect(at!.col - 1, `seed ${seed}: ${message}`).toBeLessThanOrEqual(at!.lineText?.length ?? 0);
      }
      expect(formatError(error)).not.toContain('undefined');
    }
    expect(failures).toBeGreaterThan(ROUNDS / 2);
  });
});
