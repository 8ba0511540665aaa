/** The explicit list of built-in stages. */
import type { StageDefinition } from '../src/run/stage-api.ts';
import { datasetStage } from './dataset/stage.ts';
import { rewriteStage } from './rewrite/stage.ts';
import { tripletsStage } from './triplets/stage.ts';

// biome-ignore lint/suspicious/noExplicitAny: each stage has its own option type; the runner validates before it calls.
export const STAGES: readonly StageDefinition<any>[] = [datasetStage, rewriteStage, tripletsStage];
