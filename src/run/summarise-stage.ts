/** A planned stage as events and records tell it. */
import { isArtifactRef } from '../config/tree.ts';
import type { LocalInput, PlannedStage } from '../plan/types.ts';
import type { StageSummary } from './events.ts';
import type { Provider } from './stage-api.ts';

/** @param provider kind of device that stages compute on */
export function summariseStage(stage: PlannedStage, provider: Provider): StageSummary {
  const { name, definition, seed, options, resources } = stage;
  const defaults = resources.device ? definition.deviceDefaults?.(provider) : undefined;
  const switches = definition.switches?.(options);
  const settings = definition.settings?.(options);
  const code = definition.origin?.code;
  return {
    name,
    kind: definition.kind,
    version: definition.version,
    seed,
    options: asWritten({ ...defaults, ...options }) as Record<string, unknown>,
    ...(switches && { switches }),
    ...(settings && { settings }),
    ...(code !== undefined && { code }),
  };
}

/** Artifacts as the user would write them: an expression, or a path. */
function asWritten(value: unknown): unknown {
  if (isArtifactRef(value)) return `\${{ stages.${value.stage}.outputs.${value.output} }}`;
  if (isLocalInput(value)) return value.written;
  if (Array.isArray(value)) return value.map(asWritten);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, asWritten(item)]));
}

function isLocalInput(value: unknown): value is LocalInput {
  return value !== null && typeof value === 'object' && (value as { kind?: unknown }).kind === 'local-input';
}
