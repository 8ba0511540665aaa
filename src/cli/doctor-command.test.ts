import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';

describe('fr1 doctor', () => {
  it('tells of the runtime, each kind of device and the disk, and succeeds with a CPU alone', async () => {
    const { exitCode, stdout } = await callCli(tmpdir(), ['doctor']);
    expect(exitCode).toBe(0);
    for (const line of [
      /^ok {2}node/m,
      /^ok {2}onnxruntime .*C API/m,
      /^ok {2}cpu/m,
      /^(ok|no) {2}webgpu/m,
      /^(ok|no) {2}cuda/m,
      /disk/,
    ])
      expect(stdout).toMatch(line);
  });

  it('fails when the device asked for is not there, and says how to get it', async () => {
    const { exitCode, stdout } = await callCli(tmpdir(), ['doctor', '--device', 'cuda:9', '--json']);
    expect(exitCode).toBe(1);
    const { ok, findings } = JSON.parse(stdout);
    expect(ok).toBe(false);
    const finding = findings.find(({ subject }: { subject: string }) => subject === 'cuda:9');
    expect(finding.isUsable).toBe(false);
    expect(finding.steps.length).toBeGreaterThan(0);
  });

  it('refuses a device that it does not know', async () => {
    const { exitCode, stderr } = await callCli(tmpdir(), ['doctor', '--device', 'gpu']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('there is no device "gpu"');
  });
});
