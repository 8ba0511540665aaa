import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { runPlan } from '../../test/helpers/run-plan.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const documentation = readFile(new URL('../../docs/run-format.md', import.meta.url), 'utf8');

/** Words in code marks, split so that `a, b` names two. */
async function documentedNames(): Promise<Set<string>> {
  return new Set([...(await documentation).matchAll(/`([A-Za-z-]+)`/g)].map((match) => match[1]!));
}

describe('docs/run-format.md', () => {
  it('names every field of run.json and of the events of a run with all kinds of ends', async () => {
    const run = await runPlan(
      await temporaryFolder(),
      `
stages:
  good: { uses: fake-count, with: { steps: 2 } }
  bad: { uses: fake-fail }
  after: { uses: fake-write, with: { data: "\${{ stages.bad.outputs.data }}" } }
  missed: { uses: fake-write, expect: { score: { atLeast: 0.9 } } }
  device: { uses: fake-device }
`,
    );
    const names = await documentedNames();
    const used = new Set([
      ...Object.keys(run.record),
      ...run.record.stages.flatMap((stage) => [...Object.keys(stage), stage.status]),
      ...run.events.flatMap((event) => [...Object.keys(event), event.type]),
    ]);
    expect([...used].filter((name) => !names.has(name))).toEqual([]);
  });

  it('names every type of event', async () => {
    const source = await readFile(new URL('./events.ts', import.meta.url), 'utf8');
    const types = [...source.matchAll(/type: '([a-z-]+)'/g)].map((match) => match[1]!);
    expect(types.length).toBeGreaterThan(10);
    const names = await documentedNames();
    expect(types.filter((type) => !names.has(type))).toEqual([]);
  });
});
