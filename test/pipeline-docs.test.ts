/** Every YAML block of docs/pipeline-file.md is a valid pipeline of the built-in stages. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadPipeline } from '../src/config/load.ts';
import { planPipeline } from '../src/plan/plan.ts';
import { STAGES } from '../stages/index.ts';
import { temporaryFolder } from './helpers/temporary-folder.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PAGE = readFileSync(join(ROOT, 'docs', 'pipeline-file.md'), 'utf8');
const EXAMPLES = [...PAGE.matchAll(/```yaml\n(.*?)```/gs)].map(([, text], i) => {
  const name = /^# (\w+\.yaml)$/m.exec(text!)?.[1] ?? `example-${i + 1}.yaml`;
  return { name, text: text! };
});

describe('docs/pipeline-file.md', () => {
  it.each(EXAMPLES)('has a valid pipeline $name', async ({ name }) => {
    const folder = await temporaryFolder();
    symlinkSync(join(ROOT, 'models'), join(folder, 'models'));
    mkdirSync(join(folder, 'pipelines'));
    for (const each of EXAMPLES) writeFileSync(join(folder, 'pipelines', each.name), each.text);
    const pipeline = await loadPipeline({ file: name, stages: STAGES, cwd: join(folder, 'pipelines') });
    expect(planPipeline(pipeline).order.length).toBeGreaterThan(0);
  });

  it('has an example of every key of a pipeline and of a stage', () => {
    const schema = JSON.parse(readFileSync(join(ROOT, 'schemas', 'pipeline.schema.json'), 'utf8'));
    const keys = [...Object.keys(schema.properties), ...Object.keys(schema.$defs.stage.properties)];
    const missing = keys.filter((key) => !PAGE.includes(`\`${key}\``));
    expect(missing).toEqual([]);
  });
});
