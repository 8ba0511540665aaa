import { expect, it } from 'vitest';
import type { PlannedStage } from '../plan/types.ts';
import type { Provider } from './stage-api.ts';
import { summariseStage } from './summarise-stage.ts';

function planned(options: Record<string, unknown>, device = true): PlannedStage {
  return {
    name: 'test',
    seed: 7,
    options,
    resources: { device },
    definition: {
      kind: 'fake',
      version: 1,
      settings: ({ rate }: { rate?: number }) => ({ rate: rate ?? 5 }),
      deviceDefaults: (provider: Provider) => ({ batchSize: provider === 'cpu' ? 1 : 9 }),
    },
  } as unknown as PlannedStage;
}

it.each([
  [
    'the default of the device for an option that is not given',
    planned({ rate: 2 }),
    'webgpu',
    { rate: 2, batchSize: 9 },
  ],
  ['what is given', planned({ batchSize: 4 }), 'webgpu', { batchSize: 4 }],
  ['no such default where no device is used', planned({}, false), 'cpu', {}],
] as const)('tells %s', (_, stage, provider, options) => {
  expect(summariseStage(stage, provider).options).toEqual(options);
});

it('tells what preset and options come to', () => {
  expect(summariseStage(planned({ rate: 2 }), 'cpu').settings).toEqual({ rate: 2 });
  expect(summariseStage(planned({}), 'cpu').settings).toEqual({ rate: 5 });
});
