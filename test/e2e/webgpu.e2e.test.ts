/** Training, sampling and evaluation of a pipeline on WebGPU through the built CLI, beside the CPU. */
import { describe, expect, it } from 'vitest';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import { openCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import { webGpuSource } from '../helpers/device-source.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { type FinishedRun, runQuickstart } from '../helpers/tiny-quickstart.ts';

const SMALLEST = [
  'stages.birds.with.testImages=4',
  'stages.sft.with.steps=2',
  'stages.sft.with.batchSize=4',
  'stages.sft.with.microBatchSize=4',
  'stages.sft.with.learningRate=1e-4',
  'stages.tapo.with.steps=1',
  'stages.tapo.with.groupsPerStep=2',
  'stages.tapo.with.maxDraws=1',
  'stages.tapo.with.maxNewTokens=16',
  // So early nothing is answered right, and the update is made all the same.
  'stages.tapo.with.whenNoneInformative=keep-all',
  'stages.eval-tapo.with.maxNewTokens=16',
];

async function trainedOn(device: string): Promise<FinishedRun> {
  return runQuickstart(await temporaryFolder(), SMALLEST, ['--device', device, '--only', 'eval-tapo']);
}

/** Of the weights of two model folders: ||b - a|| / ||a||. */
function relativeDifference(first: string, second: string): number {
  const [a, b] = [openCheckpoint(first), openCheckpoint(second)];
  let [difference, size] = [0, 0];
  for (const { name } of a.parameters) {
    const [before, after] = [a.readFloat32(name).data, b.readFloat32(name).data];
    for (const [i, value] of before.entries()) {
      difference += (after[i]! - value) ** 2;
      size += value ** 2;
    }
  }
  return Math.sqrt(difference / size);
}

async function isOffered(): Promise<boolean> {
  const runtime = await openRuntime({ threads: 1 });
  try {
    return (await webGpuSource(runtime)) !== undefined;
  } finally {
    await runtime.close();
  }
}

describe.skipIf(!(await isOffered()))('fr1 run --device webgpu', () => {
  it('trains, samples and evaluates as on the CPU', async () => {
    const [cpu, webGpu] = [await trainedOn('cpu'), await trainedOn('webgpu')];
    for (const name of ['loss', 'finalLoss']) {
      const [expected, value] = [cpu, webGpu].map((run) => run.stage('sft').metrics[name]!.value) as [number, number];
      expect(value).toBeCloseTo(expected, 3);
    }
    expect(webGpu.stage('tapo').metrics['skippedSteps']!.value).toBe(0);
    const folders = [cpu, webGpu].map((run) => run.stage('tapo').outputs['model']!.path) as [string, string];
    expect(relativeDifference(...folders)).toBeLessThan(1e-3);
    expect(webGpu.stage('eval-tapo').metrics['closed']!.n).toBe(8);
  }, 300_000);
});
