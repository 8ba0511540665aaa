import type { StageDefinition } from '../../src/run/stage-api.ts';

export declare const fakeWrite: StageDefinition;
export declare const fakeCount: StageDefinition;
export declare const fakeFail: StageDefinition;
export declare const fakeDeaf: StageDefinition;
export declare const fakeDevice: StageDefinition;
export declare const STAGES: readonly StageDefinition[];
