/** The explicit list of built-in stages. */
import type { StageDefinition } from '../src/run/stage-api.ts';
import { compareStage } from './compare/stage.ts';
import { datasetStage } from './dataset/stage.ts';
import { evalStage } from './eval/stage.ts';
import { exportStage } from './export/stage.ts';
import { pretrainStage } from './pretrain/stage.ts';
import { rewriteStage } from './rewrite/stage.ts';
import { sftStage } from './sft/stage.ts';
import { shellStage } from './shell/stage.ts';
import { tablesStage } from './tables/stage.ts';
import { tapoStage } from './tapo/stage.ts';
import { tripletsStage } from './triplets/stage.ts';
import { zeroshotStage } from './zeroshot/stage.ts';

// biome-ignore lint/suspicious/noExplicitAny: each stage has its own option type; the runner validates before it calls.
export const STAGES: readonly StageDefinition<any>[] = [
  compareStage,
  datasetStage,
  evalStage,
  exportStage,
  pretrainStage,
  rewriteStage,
  sftStage,
  shellStage,
  tablesStage,
  tapoStage,
  tripletsStage,
  zeroshotStage,
];
