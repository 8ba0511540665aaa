/** The recorded values are those of transformers 5.17 / torch 2.11 (test/fixtures/qwen2_5_vl). */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { openSafetensors, writeSafetensors } from '../engine/weights/safetensors.ts';

const folder = (name: string) => fixture('qwen2_5_vl', name);

/** A recorded file under other names or with other values; a tensor without a name is left out. */
async function rewritten(file: string, change: (name: string, data: Float32Array) => string | null): Promise<string> {
  const source = openSafetensors(join(folder('tiny_tied'), file));
  const path = join(await temporaryFolder(), file);
  await writeSafetensors(
    path,
    source.names.flatMap((stored) => {
      const { shape } = source.info(stored);
      const data = Float32Array.from(source.read(stored).data as Iterable<number | bigint>, Number);
      const name = change(stored, data);
      return name === null ? [] : [{ name, shape, load: () => ({ dtype: 'float32' as const, shape, data }) }];
    }),
  );
  return path;
}

describe('fr1 parity', () => {
  it.each(['tiny_tied', 'tiny_untied'])('agrees with transformers on %s', async (name) => {
    const dir = folder(name);
    const { exitCode, stdout } = await callCli(dir, [
      ...['parity', '.', 'expected.safetensors', '--json'],
      ...['--grads', 'expected_grads.safetensors', '--generate', 'expected_generate.safetensors'],
    ]);
    const { holds, rows } = JSON.parse(stdout) as { holds: boolean; rows: { name: string }[] };
    expect({ exitCode, holds }).toEqual({ exitCode: 0, holds: true });
    const gradients = openSafetensors(join(dir, 'expected_grads.safetensors')).names.length;
    expect(rows.map((row) => row.name).slice(0, 5)).toEqual([
      ...['position_ids', 'rope_deltas', 'image_embeds', 'logits', 'loss'],
    ]);
    expect(rows).toHaveLength(6 + gradients);
  });

  it.each(['tiny_tied', 'tiny_untied'])('agrees layer by layer, and without gradients, on %s', async (name) => {
    const values = ['position_ids', 'rope_deltas', 'image_embeds', 'logits', 'loss'];
    for (const [options, others] of [
      [['--execution', 'layered', '--grads', 'expected_grads.safetensors'], 60],
      [['--execution', 'layered', '--generate', 'expected_generate.safetensors'], 1],
      [['--execution', 'whole'], 0],
    ] as const) {
      const { exitCode, stdout } = await callCli(folder(name), [
        ...['parity', '.', 'expected.safetensors', '--json'],
        ...options,
      ]);
      const { holds, rows } = JSON.parse(stdout) as { holds: boolean; rows: { name: string }[] };
      expect({ exitCode, holds }, options.join(' ')).toEqual({ exitCode: 0, holds: true });
      expect(rows.slice(0, values.length).map((row) => row.name)).toEqual(values);
      expect(rows.length).toBeGreaterThanOrEqual(values.length + others);
    }
  });

  // Rows padded on the left that have their first token for a label, and the padding token inside a text.
  it.each(['whole', 'layered'])(
    'agrees on padding that predicts and on lookups of the padding token (%s)',
    async (execution) => {
      const { exitCode, stdout } = await callCli(folder('padding'), [
        ...['parity', folder('tiny_tied'), 'expected.safetensors', '--grads', 'grads.safetensors'],
        ...['--execution', execution],
      ]);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/gradient of model\.embed_tokens\.weight .* ok/);
      expect(stdout).toContain('all 4 agree');
    },
  );

  it('exits with 1 and names the tensors that are beyond their tolerance', async () => {
    const dir = folder('tiny_tied');
    const grads = await rewritten('expected_grads.safetensors', (name, data) => {
      if (name === 'model.language_model.norm.weight') data[0]! += 0.001 * Math.hypot(...data);
      return name;
    });
    const { exitCode, stdout } = await callCli(dir, ['parity', '.', 'expected.safetensors', '--grads', grads]);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/gradient of model\.norm\.weight .* BEYOND/);
    expect(stdout).toContain('1 of 97 are beyond their tolerance');
  });

  it('tells the weights of which there is no gradient to compare with, and compares the others', async () => {
    const grads = await rewritten('expected_grads.safetensors', (name) => (name.includes('up_proj') ? null : name));
    const argv = ['parity', '.', 'expected.safetensors', '--grads', grads];
    const { exitCode, stdout } = await callCli(folder('tiny_tied'), argv);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/the file has no gradient of them: \d+ weights, \S+\.up_proj\.weight, /);
    const report = JSON.parse((await callCli(folder('tiny_tied'), [...argv, '--json'])).stdout);
    expect(report.notCompared).toContain('visual.blocks.1.mlp.up_proj.weight');
    expect(report.rows.length + report.notCompared.length).toBe(97);
  });

  it('refuses files with tensors that are nothing to compare', async () => {
    const renamed = (file: string, from: string, to: string) => rewritten(file, (name) => (name === from ? to : name));
    const refusals = [
      [
        ['--grads', await renamed('expected_grads.safetensors', 'model.language_model.norm.weight', 'head.weight')],
        'it holds "head.weight", which are gradients of no trained parameter',
      ],
      [['--generate', await renamed('expected_generate.safetensors', 'generated', 'tokens')], 'it holds "tokens"'],
      [['--inputs', await renamed('expected.safetensors', 'logits', 'logit')], 'it holds "logit"; known are input_ids'],
    ] as const;
    for (const [options, message] of refusals) {
      const { exitCode, stderr } = await callCli(folder('tiny_tied'), [
        ...['parity', '.', 'expected.safetensors', ...options],
      ]);
      expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining(message) });
    }
    const batch = await rewritten('expected.safetensors', (name) =>
      /^(?:input_ids|attention_mask|pixel_values|image_grid_thw)$/.test(name) ? name : null,
    );
    const without = await callCli(folder('tiny_tied'), ['parity', '.', batch]);
    expect(without).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('nothing to compare with') });
  });

  it('refuses a file that does not fit, saying why', async () => {
    const out = await temporaryFolder();
    await copyFile(join(folder('tiny_tied'), 'expected_generate.safetensors'), join(out, 'no-batch.safetensors'));
    await writeFile(join(out, 'text.safetensors'), 'not a safetensors file');
    const refused = async (file: string) => {
      const { exitCode, stderr } = await callCli(out, ['parity', folder('tiny_tied'), file]);
      expect(exitCode).toBe(2);
      return stderr;
    };
    expect(await refused('no-batch.safetensors')).toContain('it has no tensor "input_ids"');
    expect(await refused('text.safetensors')).toContain('SAFETENSORS_INVALID');
    expect(await refused('absent.safetensors')).toContain('cannot be opened');
    const other = await callCli(out, [
      ...['parity', folder('tiny_untied'), join(folder('tiny_tied'), 'expected.safetensors')],
    ]);
    expect(other).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('the model knows 256') });
  });
});
