import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import { Graph } from '../../autodiff/graph.ts';
import { PLAIN_SAMPLING } from '../../generate/plain-sampling.ts';
import { Sampler } from '../../generate/sampler.ts';
import type { SamplingOptions } from '../../generate/types.ts';
import { Program } from '../../program.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { Runtime } from '../../session/runtime.ts';
import { float32, type HostTensor, int32 } from '../../tensor.ts';
import { scoresOf } from './scores.ts';

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

const LOGITS = [1, 0.9, 3, -0.4, 0];
const SEEN = [0, 3];

async function scores(options: Partial<SamplingOptions>): Promise<number[]> {
  const sampler = new Sampler(
    {
      maxNewTokens: 1,
      ...PLAIN_SAMPLING,
      ...options,
    },
    5,
  );
  const graph = new Graph();
  const logits = graph.input('logits', 'float32', ['N', 5]);
  const key = `scores:${JSON.stringify(options)}`;
  const program = await Program.compile(
    bareSource(runtime),
    graph,
    { scores: scoresOf(graph, logits, sampler.rule) },
    { key },
  );
  const feeds: Record<string, HostTensor> = {
    logits: float32([1, 5], Float32Array.from(LOGITS)),
    seen: int32([1, 2], Int32Array.from(SEEN)),
    penalty: float32([1], Float32Array.of(sampler.penalty)),
    logit_bias: float32([5], sampler.logitBias),
    inverse_temperature: float32([1], Float32Array.of(sampler.inverseTemperature)),
  };
  const wanted = Object.fromEntries(program.feeds.map(({ name }) => [name, feeds[name]!]));
  return Array.from((await program.run(wanted))['scores']!.data as Float32Array);
}

function softmax(logits: readonly number[]): number[] {
  const weights = logits.map((logit) => Math.exp(logit));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function expectClose(got: readonly number[], want: readonly number[]): void {
  expect(got).toHaveLength(want.length);
  got.forEach((value, i) => {
    expect(Math.abs(value - want[i]!)).toBeLessThan(1e-6);
  });
}

describe('scoresOf()', () => {
  it('applies penalty, bans and temperature in this order', async () => {
    const options = { repetitionPenalty: 2, bannedTokenIds: [2], temperature: 0.5 };
    // Seen: 1 is halved, -0.4 doubled; then token 2 is banned and all are divided by 0.5.
    expectClose(await scores(options), softmax([1, 1.8, Number.NEGATIVE_INFINITY, -1.6, 0]));
  });

  it('is the softmax where nothing is asked for, and finite at a temperature near 0', async () => {
    expectClose(await scores({}), softmax(LOGITS));
    expectClose(await scores({ temperature: 1e-6, bannedTokenIds: [4] }), [0, 0, 1, 0, 0]);
  });

  it('is the logits at temperature 0, penalised and with bans', async () => {
    expectClose(await scores({ temperature: 0, repetitionPenalty: 2 }), [0.5, 0.9, 3, -0.8, 0]);
    expect((await scores({ temperature: 0, bannedTokenIds: [2] }))[2]).toBeLessThan(-1e8);
  });
});
