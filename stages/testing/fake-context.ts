/** A stage context without a runner, for tests: outputs and state lie in a temporary folder, what is reported is kept. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Artifact, ArtifactType } from '../../src/artifacts/types.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { Lease } from '../../src/pool/lease.ts';
import type { Progress, StageContext, StageDefinition } from '../../src/run/stage-api.ts';

export interface FakeContext<Options> extends StageContext<Options>, Disposable {
  readonly messages: string[];
  readonly warnings: string[];
  readonly progressed: Progress[];
  /** Bytes. */
  readonly expectedMemory: number[];
  readonly curve: { readonly step: number; readonly values: Readonly<Record<string, number>> }[];
}

export interface FakeContextSettings {
  readonly seed?: number;
  readonly signal?: AbortSignal;
  readonly lease?: Lease;
  /** Kept when given, as after a crash; else a fresh folder. */
  readonly state?: string;
}

/** Options that are left out take the default of the stage's schema. Dispose it to remove its folders. */
export function fakeContext<Options>(
  stage: StageDefinition<Options>,
  options: Partial<Options>,
  settings: FakeContextSettings = {},
): FakeContext<Options> {
  const root = mkdtempSync(path.join(tmpdir(), `fr1-${stage.kind}-`));
  const folder = (name: string) => {
    const made = path.join(root, name);
    mkdirSync(made, { recursive: true });
    return made;
  };
  const defaults = Object.fromEntries(
    Object.entries(stage.schema.properties)
      .filter(([, property]) => property['default'] !== undefined)
      .map(([name, property]) => [name, structuredClone(property['default'])]),
  );
  const messages: string[] = [];
  const warnings: string[] = [];
  const progressed: Progress[] = [];
  const expectedMemory: number[] = [];
  const curve: FakeContext<Options>['curve'] = [];
  return {
    name: stage.kind,
    options: { ...defaults, ...options } as Options,
    outputs: Object.fromEntries(Object.keys(stage.outputs).map((name) => [name, folder(`outputs/${name}`)])),
    state: settings.state ?? folder('state'),
    pipelineFolder: root,
    seed: settings.seed ?? 1,
    signal: settings.signal ?? new AbortController().signal,
    get lease(): Lease {
      if (settings.lease === undefined) throw new Fr1Error('RUNTIME_UNAVAILABLE', 'this test lends no device');
      return settings.lease;
    },
    log: (message) => messages.push(message),
    warn: (message) => warnings.push(message),
    expectMemory: (bytes) => expectedMemory.push(bytes),
    progress: (progress) => progressed.push(progress),
    metric: (step, values) => curve.push({ step, values }),
    messages,
    warnings,
    progressed,
    expectedMemory,
    curve,
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  };
}

/** A folder as an input artifact; the digest is made up. */
export function fakeArtifact(type: ArtifactType, folder: string): Artifact {
  return { type, path: folder, digest: `sha256:${'0'.repeat(64)}` };
}
