/**
 * `fr1/plugin`: everything that a plugin may import from fr1. A change that breaks plugins raises fr1's version as
 * semantic versioning asks for; api-snapshot.test.ts shows each change. docs/plugins.md explains how to write one.
 */

export { readEvalData } from '../artifacts/eval-data.ts';
export { readJsonLines, readJsonObject, writeJsonLines } from '../artifacts/json-lines.ts';
export { readPredictions, writePredictions } from '../artifacts/predictions.ts';
export {
  linkImages,
  readImageData,
  readSftData,
  readTripletData,
  writeDataset,
  writeSftData,
} from '../artifacts/rows.ts';
export type {
  Artifact,
  ArtifactType,
  DatasetInfo,
  EvalRow,
  EvaluationInfo,
  ImageRow,
  Metric,
  MetricsFile,
  PredictionRow,
  SftRow,
  TripletRow,
} from '../artifacts/types.ts';
export type { Fr1Error } from '../errors/fr1-error.ts';
export type { Lease } from '../pool/lease.ts';
export type {
  CheckContext,
  OptionProblem,
  OutputSpec,
  Progress,
  ReportTable,
  ResourceRequest,
} from '../run/stage-api.ts';
export { defineStage, type PluginContext, type PluginResult, type PluginStage } from './define-stage.ts';
export type { OptionSchema, OptionsOf, StageOptionsSchema, WrittenOptionsOf } from './options-of.ts';
export { inputProblem, type PluginErrorOptions, stageFailure } from './plugin-errors.ts';
