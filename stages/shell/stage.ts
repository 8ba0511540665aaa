/**
 * `shell`: an external command in any language as a stage. Artifacts come and go by path, metrics by a JSON file, progress
 * by lines on standard output (messages.ts). Knows nothing of what the command does.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { ARTIFACT_TYPES, type ArtifactType } from '../../src/artifacts/types.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { didYouMean } from '../../src/errors/nearest.ts';
import { leaseEnvironment } from '../../src/pool/lease.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import {
  defineStage,
  type OptionProblem,
  type OutputSpec,
  type StageContext,
  type StageDefinition,
} from '../../src/run/stage-api.ts';
import { hearLine } from './messages.ts';
import { readMetricsFile } from './metrics-file.ts';
import type { ShellOptions } from './options.ts';
import { fillMarks, type Places, placeVariables, unknownMarks } from './placeholders.ts';

/** Lines of standard error that are told when the command fails. */
const LAST_LINES = 12;

export const shellStage: StageDefinition<ShellOptions> = defineStage<ShellOptions>({
  kind: 'shell',
  summary: 'Runs a command in any language, with artifacts in and out by path.',
  version: 1,
  schema: loadStageSchema(import.meta.url),
  outputs: {},
  forOptions: (written) => {
    const { outputs, metrics } = declaredIn(written);
    const validate = (options: ShellOptions) => [...problemsOf(options), ...undeclared(options, outputs)];
    return { ...shellStage, outputs, validate, ...(metrics.length > 0 && { metrics }) };
  },
  resources: ({ device }) => ({ device }),
  validate: problemsOf,
  async run(context) {
    const { options, signal } = context;
    const places = placesOf(context);
    await rm(places.metrics, { force: true });
    const last: string[] = [];
    const { runCommand } = await import('../../src/run/run-command.ts');
    const exitCode = await runCommand({
      command: commandOf(options, places),
      cwd: path.resolve(context.pipelineFolder, options.cwd),
      env: {
        ...leaseEnvironment(options.device ? context.lease.device.id : undefined),
        ...options.env,
        ...placeVariables(places),
      },
      signal,
      onStdout: (line) => hearLine(line, context),
      onStderr: (line) => {
        last.push(line);
        if (last.length > LAST_LINES) last.shift();
        context.log(line);
      },
    });
    if (exitCode !== 0) throw failure(options, exitCode, last);
    return { metrics: await readMetricsFile(places.metrics, options.metrics) };
  },
});

/** The outputs and metrics that a pipeline writes down, as far as they are what they should be. */
function declaredIn(written: unknown): { outputs: Record<string, OutputSpec>; metrics: string[] } {
  const { outputs, metrics } = (written ?? {}) as { outputs?: unknown; metrics?: unknown };
  const types = Object.entries(outputs !== null && typeof outputs === 'object' ? outputs : {});
  return {
    outputs: Object.fromEntries(
      types.flatMap(([name, type]) =>
        Object.hasOwn(ARTIFACT_TYPES, String(type))
          ? [[name, { type: type as ArtifactType, description: 'made by the command' }]]
          : [],
      ),
    ),
    metrics: Array.isArray(metrics) ? metrics.filter((name) => typeof name === 'string') : [],
  };
}

function undeclared(options: ShellOptions, outputs: Readonly<Record<string, OutputSpec>>): OptionProblem[] {
  return Object.keys(options.outputs)
    .filter((name) => !(name in outputs))
    .map((name) => ({ pointer: `/outputs/${name}`, message: `the type of output "${name}" must be written out` }));
}

function problemsOf({ command, script, inputs, outputs }: ShellOptions): readonly OptionProblem[] {
  if ((command === undefined) === (script === undefined)) {
    const message = command === undefined ? 'it has neither `command` nor `script`' : 'it has `command` and `script`';
    return [{ pointer: command === undefined ? '' : '/script', message, hint: 'give one of the two' }];
  }
  const [given, made] = [Object.keys(inputs), Object.keys(outputs)];
  return (command ?? []).flatMap((argument, i) =>
    unknownMarks(argument, given, made).map((mark) => ({
      pointer: `/command/${i}`,
      message: `there is no ${mark.slice(1, -1).replace('.', ' "')}"`,
      hint:
        didYouMean(
          mark.slice(1, -1),
          [...given.map((name) => `input.${name}`), ...made.map((name) => `output.${name}`)],
          'there are',
        ) ?? 'name it under `inputs` or `outputs`',
    })),
  );
}

function placesOf({ options, outputs, state, seed }: StageContext<ShellOptions>): Places {
  return {
    inputs: Object.fromEntries(Object.entries(options.inputs).map(([name, artifact]) => [name, artifact.path])),
    outputs,
    state,
    metrics: path.join(state, 'metrics.json'),
    seed: String(seed),
  };
}

function commandOf({ command, script }: ShellOptions, places: Places): [string, ...string[]] {
  if (command !== undefined) {
    return command.map((argument) => fillMarks(argument, places)) as [string, ...string[]];
  }
  return process.platform === 'win32' ? ['cmd.exe', '/d', '/s', '/c', script!] : ['/bin/sh', '-eu', '-c', script!];
}

function failure({ command, script }: ShellOptions, exitCode: number, last: readonly string[]): Fr1Error {
  const shown = (command?.join(' ') ?? script ?? '').split('\n')[0]!;
  const how = exitCode > 128 ? `by signal ${exitCode - 128}` : `with exit code ${exitCode}`;
  const lines = last.length === 0 ? [] : ['the last lines of its standard error:', ...last.map((line) => `  ${line}`)];
  return new Fr1Error('STAGE_FAILED', [`the command ended ${how}: ${shown.slice(0, 200)}`, ...lines].join('\n'), {
    hint: exitCode === 127 ? 'is the program installed and on the PATH?' : undefined,
  });
}
