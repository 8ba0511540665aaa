import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { openCheckpoint } from '../engine/weights/checkpoint.ts';

const CONFIG = fixture('qwen2_5_vl', 'tiny_tied', 'config.json');

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

const make = (out: string, ...more: string[]) =>
  callCli(folder, ['new', 'checkpoint', '--config', CONFIG, out, ...more]);

describe('fr1 new checkpoint', () => {
  it('writes a model folder in shards, with weights of the announced spread', async () => {
    const { exitCode, stdout } = await make('m', '--dtype', 'bf16', '--max-shard-bytes', '200000');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/92 tensors, 236,704 random weights in bfloat16, seed 1/);
    expect((await readdir(join(folder, 'm'))).filter((name) => name.endsWith('.safetensors')).length).toBeGreaterThan(
      1,
    );
    const checkpoint = openCheckpoint(join(folder, 'm'));
    const { data } = checkpoint.readFloat32('model.layers.0.mlp.up_proj.weight');
    const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
    const deviation = Math.sqrt(data.reduce((sum, value) => sum + (value - mean) ** 2, 0) / data.length);
    expect(Math.abs(mean)).toBeLessThan(0.01);
    expect(deviation * Math.sqrt(64)).toBeCloseTo(1, 1);
    expect(checkpoint.readFloat32('model.norm.weight').data.every((value) => value === 1)).toBe(true);
    expect(checkpoint.readFloat32('model.layers.0.self_attn.q_proj.bias').data.every((value) => value === 0)).toBe(
      true,
    );
  });

  it('writes the same bytes for the same seed, others for another', async () => {
    await make('a');
    await make('b');
    await make('c', '--seed', '2');
    const bytes = (name: string) => readFile(join(folder, name, 'model.safetensors'));
    expect((await bytes('a')).equals(await bytes('b'))).toBe(true);
    expect((await bytes('a')).equals(await bytes('c'))).toBe(false);
  });

  it('refuses a folder that exists, a type that is none, and a config that cannot be read', async () => {
    await make('a');
    expect(await make('a')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('exists already') });
    expect(await make('b', '--dtype', 'int8')).toMatchObject({ exitCode: 2 });
    const absent = await callCli(folder, ['new', 'checkpoint', '--config', 'none.json', 'x']);
    expect(absent).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('none.json cannot be read') });
  });
});
