/** `tables`: evaluations in the layout of the paper's tables. */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage } from '../../src/run/stage-api.ts';
import { repeatedNames } from '../run-names.ts';
import type { TablesOptions } from './options.ts';

export const tablesStage = defineStage<TablesOptions>({
  kind: 'tables',
  summary: "Lays evaluations out like the tables of Fine-R1's paper, beside its rows.",
  version: 1,
  schema: loadStageSchema(import.meta.url),
  outputs: { tables: { type: 'files', description: 'each table as Markdown and CSV, and tables.json with all' } },
  resources: () => ({ device: false }),
  validate: repeatedNames,
  async run(context) {
    const { runTables } = await import('./run.ts');
    return runTables(context);
  },
});
