/** A stage that does next to nothing, so that what is timed is the runner. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export const STAGES = [
  {
    kind: 'note',
    summary: 'Writes a line.',
    version: 1,
    schema: {
      type: 'object',
      additionalProperties: false,
      properties: {
        text: { type: 'string', default: '', description: 'The line.' },
        after: { type: 'array', default: [], items: { artifact: ['rollouts'] }, description: 'What comes before.' },
      },
    },
    outputs: { note: { type: 'rollouts', description: 'The line.' } },
    resources: () => ({ device: false }),
    async run({ options, outputs }) {
      await writeFile(join(outputs.note, 'rollouts.jsonl'), `${JSON.stringify(options.text)}\n`);
      return {};
    },
  },
];
