/** Small stage kinds for tests of configuration and planning: `source`, `train`, `merge`. None can run. */
import type { StageDefinition } from '../../run/stage-api.ts';

const cannotRun = () => Promise.reject(new Error('this stage is for planning only'));

const source: StageDefinition = {
  kind: 'source',
  summary: 'Makes images.',
  version: 1,
  schema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      count: { type: 'integer', minimum: 1, maximum: 1000, default: 10, description: 'Images per class.' },
      colour: { type: 'string', enum: ['red', 'green', 'blue'], default: 'red', description: 'Colour of all.' },
      label: { type: 'string', description: 'Any text.' },
      seed: { type: 'integer', minimum: 0, description: 'Seed instead of the derived one.' },
      from: { type: 'array', description: 'Folders to copy.', items: { artifact: ['image-data'] } },
    },
  },
  outputs: {
    train: { type: 'image-data', description: 'Images to learn from.' },
    test: { type: 'eval-data', description: 'Images to test on.' },
  },
  emptyOutputs: ({ label }): { train?: string } => (label === 'nothing' ? { train: 'label is "nothing"' } : {}),
  resources: () => ({ device: false }),
  run: cannotRun,
};

const train: StageDefinition = {
  kind: 'train',
  summary: 'Trains a model.',
  version: 3,
  metrics: ['loss', 'accuracy'],
  cosmeticOptions: ['logEvery'],
  schema: {
    type: 'object',
    additionalProperties: false,
    required: ['model', 'learningRate'],
    properties: {
      model: { artifact: ['checkpoint'], description: 'Where to start.' },
      data: { type: 'string', artifact: ['image-data', 'sft-data'], description: 'What to learn.' },
      learningRate: { type: 'number', exclusiveMinimum: 0, maximum: 1, description: 'Step size.' },
      batchSize: { type: 'integer', minimum: 1, default: 8, description: 'Rows per step.' },
      microBatchSize: { type: 'integer', minimum: 1, description: 'Rows at once.' },
      logEvery: { type: 'integer', minimum: 1, default: 10, description: 'Steps between lines.' },
      teacher: {
        description: 'Who writes the thoughts.',
        oneOf: [
          {
            type: 'object',
            additionalProperties: false,
            required: ['kind'],
            properties: { kind: { const: 'truth' }, noise: { type: 'number', minimum: 0, maximum: 1 } },
          },
          {
            type: 'object',
            additionalProperties: false,
            required: ['kind', 'url'],
            properties: { kind: { const: 'service' }, url: { type: 'string', description: 'Where it listens.' } },
          },
        ],
      },
      schedule: {
        type: 'object',
        additionalProperties: false,
        default: {},
        description: 'Change of the step size.',
        properties: {
          kind: { enum: ['constant', 'cosine'], default: 'constant', description: 'Shape.' },
          warmUpSteps: { type: 'integer', minimum: 0, default: 0, description: 'Steps of linear growth.' },
        },
      },
    },
  },
  outputs: { model: { type: 'checkpoint', description: 'The trained model.' } },
  resources: () => ({ device: true }),
  validate(options) {
    const { batchSize, microBatchSize } = options as { batchSize: number; microBatchSize?: number };
    if (microBatchSize === undefined || batchSize % microBatchSize === 0) return [];
    return [
      {
        pointer: '/microBatchSize',
        message: `microBatchSize ${microBatchSize} does not divide batchSize ${batchSize}`,
        hint: 'choose a divisor',
      },
    ];
  },
  run: cannotRun,
};

const merge: StageDefinition = {
  kind: 'merge',
  summary: 'Takes models by name.',
  version: 1,
  schema: {
    type: 'object',
    additionalProperties: false,
    required: ['models'],
    properties: {
      models: { type: 'object', description: 'Models by name.', additionalProperties: { artifact: ['checkpoint'] } },
    },
  },
  outputs: { model: { type: 'checkpoint', description: 'The merged model.' } },
  resources: () => ({ device: true }),
  run: cannotRun,
};

export const STAGE_KINDS = [source, train, merge] as const;
