/**
 * The command line: arguments and streams in, exit code out. Each command is a file of its own and is loaded only when
 * it is called, so that help and version are quick.
 *
 * Exit codes: 0 done, 1 a stage or an expectation failed, 2 the pipeline or the arguments are wrong, 130 interrupted.
 */
import { createRequire } from 'node:module';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { FloatDType } from '../engine/weights/convert.ts';
import { exitCodeOf, formatError, wantsStack } from '../errors/format.ts';
import { Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import type { GraphFormat } from '../plan/draw-graph.ts';
import type { DoctorFlags } from './doctor-command.ts';
import { reportErrorToGithub } from './github-report.ts';
import { type CliIo, wantsColour } from './io.ts';
import type { NewCheckpointFlags } from './new-checkpoint-command.ts';
import type { ParityFlags } from './parity-command.ts';

export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  let exitCode = 0;
  const program = makeProgram(io, (code) => {
    exitCode = code;
  });
  if (argv.length === 0) {
    // The help is the answer, and the exit code says that nothing was done.
    program.outputHelp({ error: true });
    return 2;
  }
  try {
    await program.parseAsync(withBareForceLast(argv), { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      return printError(argumentError(error, commandNames(program, argv).join(' ')), io);
    }
    return printError(error, io);
  }
}

/** The command that the arguments begin with, e.g. `fr1`, `new`, `checkpoint`. */
function commandNames(command: Command, argv: readonly string[]): string[] {
  const next = command.commands.find((each) => each.name() === argv[0]);
  return [command.name(), ...(next ? commandNames(next, argv.slice(1)) : [])];
}

/** @throws nothing; version of this package */
export function fr1Version(): string {
  const require = createRequire(import.meta.url);
  // The sources lie two levels below the package, their compiled form three.
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      return (require(path) as { version: string }).version;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND')) throw error;
    }
  }
  return 'unknown';
}

function makeProgram(io: CliIo, setExitCode: (code: number) => void): Command {
  const program = new Command('fr1')
    .description('Runs declarative YAML pipelines that train and evaluate vision-language models.')
    .version(fr1Version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // Printed by runCli in the form of every other error.
      outputError: () => undefined,
    });

  pipelineCommand(program, 'run', 'run a pipeline; finished stages are taken from the cache')
    .option('--force [stages]', 'run these again, and what follows from them; all when none is named', commaList)
    .option('-j, --jobs <n>', 'stages that run at the same time', positiveInteger, 2)
    .option('--json', 'print events as JSON lines')
    .option('-k, --keep-going', 'after a failure, still start what does not need the failed stage')
    .option('--lock', 'when the run is done, write FILE.fr1.lock: what it resolved to and what it made')
    .option('--locked', 'fail when anything resolves to something else than FILE.fr1.lock says')
    .option('--dry-run', 'print what would run and why, and stop')
    .action(async (file: string, options: RunFlags) => {
      const { runCommand } = await import('./run-command.ts');
      setExitCode(await runCommand(file, options, io));
    });

  pipelineCommand(program, 'plan', 'print the order of the stages, what is cached, and why the others run')
    .option('--force [stages]', 'as in `fr1 run`', commaList)
    .option('--json', 'print JSON')
    .action(async (file: string, options: PlanFlags) => {
      const { planCommand } = await import('./plan-command.ts');
      setExitCode(await planCommand(file, options, io));
    });

  pipelineCommand(program, 'why', 'say why a stage runs or is cached, and what it waits for')
    .argument('<stage>', 'stage, cell of a matrix, or a stage with all its cells')
    .option('--json', 'print JSON')
    .action(async (file: string, stage: string, options: PlanFlags) => {
      const { whyCommand } = await import('./why-command.ts');
      setExitCode(await whyCommand(file, stage, options, io));
    });

  program
    .command('doctor')
    .description('say which devices this machine can use, and how to get what is missing')
    .option('--device <id>', 'fail when this one cannot be used')
    .option('--json', 'print JSON')
    .action(async (options: DoctorFlags) => {
      const { doctorCommand } = await import('./doctor-command.ts');
      setExitCode(await doctorCommand(options, io));
    });

  selectionOptions(program.command('graph'))
    .description('print who waits for whom')
    .addOption(
      new Option('--format <format>', 'text, mermaid or dot').choices(['text', 'mermaid', 'dot']).default('text'),
    )
    .option('--cells', 'show each cell of a matrix by itself')
    .action(async (file: string, options: GraphFlags) => {
      const { graphCommand } = await import('./graph-command.ts');
      setExitCode(await graphCommand(file, options, io));
    });

  program
    .command('check')
    .description('validate a pipeline, its data and its models without running it')
    .argument('<file>', 'pipeline file')
    .option('-s, --set <path=value>', 'change a value of the pipeline, e.g. vars.steps=10', collect, [])
    .option('--no-data', 'look at the pipeline file only')
    .option('-j, --jobs <n>', 'stages that are looked at at the same time', positiveInteger, 2)
    .option('--device <ids>', 'as `fr1 run` will be given it', deviceList, 'cpu')
    .option('--threads <n>', 'likewise', positiveInteger)
    .option('-w, --workspace <dir>', 'where results are kept (default: .fr1 beside the pipeline file)')
    .option('--json', 'print JSON')
    .action(async (file: string, options: CheckCommandFlags) => {
      const { checkCommand } = await import('./check-command.ts');
      setExitCode(await checkCommand(file, options, io));
    });

  program
    .command('stages')
    .description('list the kinds of stages, or show the options, inputs and outputs of one')
    .argument('[kind]', 'kind of stage')
    .option('--json', 'print JSON')
    .action(async (kind: string | undefined, options: { json?: boolean }) => {
      const { stagesCommand } = await import('./stages-command.ts');
      setExitCode(await stagesCommand(kind, options, io));
    });

  program
    .command('runs')
    .description('list the runs of a workspace, the latest first')
    .option('-w, --workspace <dir>', 'as in `fr1 show`')
    .option('-n, --last <n>', 'so many at most', positiveInteger, 20)
    .option('--json', 'print JSON')
    .action(async (options: RunsFlags) => {
      const { runsCommand } = await import('./runs-command.ts');
      setExitCode(await runsCommand(options, io));
    });

  program
    .command('logs')
    .description('print what a run, or one stage of it, has said')
    .argument('[stage]', 'only this stage')
    .option('-f, --follow', 'go on until the run ends')
    .option('--run <run>', 'id of a run, the beginning of one, or `last`', 'last')
    .option('-w, --workspace <dir>', 'as in `fr1 show`')
    .action(async (stage: string | undefined, options: LogsFlags) => {
      const { logsCommand } = await import('./logs-command.ts');
      setExitCode(await logsCommand(stage, options, io));
    });

  program
    .command('diff')
    .description('compare two runs: options, inputs, outputs and metrics')
    .argument(
      '[before]',
      'id of a run, or the beginning of one (default: the run before the last, of the same pipeline)',
    )
    .argument('[after]', 'the other run (default: the last)')
    .option('-w, --workspace <dir>', 'as in `fr1 show`')
    .option('--json', 'print JSON')
    .action(async (before: string | undefined, after: string | undefined, options: ShowFlags) => {
      const { diffCommand } = await import('./diff-command.ts');
      setExitCode(await diffCommand(before, after, options, io));
    });

  program
    .command('show')
    .description('print the metrics and tables of a run')
    .argument('[run]', 'id of a run, the beginning of one, or `last`', 'last')
    .option('-w, --workspace <dir>', 'workspace, or the folder that holds it (default: ./.fr1 or ./pipelines/.fr1)')
    .option('--json', 'print run.json')
    .action(async (run: string, options: ShowFlags) => {
      const { showCommand } = await import('./show-command.ts');
      setExitCode(await showCommand(run, options, io));
    });

  workspaceCommand(program, 'repro', 'run again what a lock or a run names, and compare digests and metrics')
    .argument('<what>', 'a lock file, or the id of a run')
    .option('--into <dir>', 'workspace of the repetition (default: a temporary one, removed when all is the same)')
    .option('--metrics-only', 'compare metrics alone, with their 95 % intervals; for another machine')
    .option('-j, --jobs <n>', 'stages that run at the same time', positiveInteger, 2)
    .option('--json', 'print events as JSON lines')
    .action(async (what: string, options: ReproFlags) => {
      const { reproCommand } = await import('./repro-command.ts');
      setExitCode(await reproCommand(what, options, io));
    });

  workspaceCommand(program, 'verify', 'read every artifact again, and name those that are damaged or gone')
    .option('--json', 'print JSON')
    .action(async (options: WorkspaceFlags) => {
      const { verifyCommand } = await import('./verify-command.ts');
      setExitCode(await verifyCommand(options, io));
    });

  workspaceCommand(program, 'gc', 'remove artifacts that no recent run uses, abandoned work and temporary files')
    .option('--keep <runs>', 'keep what the last runs made, so many of them', wholeNumber, 10)
    .option('--dry-run', 'only say what would be removed')
    .option('--json', 'print JSON')
    .action(async (options: GcFlags) => {
      const { gcCommand } = await import('./gc-command.ts');
      setExitCode(await gcCommand(options, io));
    });

  workspaceCommand(program, 'pin', 'make fr1 gc keep what a run made')
    .argument('<run>', 'id of a run, the beginning of one, or `last`')
    .option('--off', 'take the pin away')
    .action(async (run: string, options: PinFlags) => {
      const { pinCommand } = await import('./gc-command.ts');
      setExitCode(await pinCommand(run, options, io));
    });

  program
    .command('fetch')
    .description('download a model of the Hugging Face hub into its cache, where pipelines find it by its id')
    .argument('<id>', 'owner/name or owner/name@revision, e.g. Qwen/Qwen2.5-VL-3B-Instruct')
    .action(async (id: string) => {
      const { fetchCommand } = await import('./fetch-command.ts');
      setExitCode(await fetchCommand(id, io));
    });

  program
    .command('parity')
    .description('compare this engine with values that another implementation recorded for the same weights')
    .argument('<checkpoint>', 'model folder')
    .argument('<expected>', 'safetensors file with a batch and what it gave (scripts/dump_expected.py writes one)')
    .option('--grads <file>', 'compare the gradients of the loss in this safetensors file')
    .option(
      '--adapter <folder>',
      'put this LoRA adapter (PEFT format) on the model; gradients are those of the adapter',
    )
    .option('--inputs <file>', 'take the batch from this safetensors file instead')
    .option('--generate <file>', 'compare the greedy tokens in this safetensors file')
    .addOption(
      new Option(
        '--execution <kind>',
        'whole: one graph in float32; layered: layer by layer over the weights as stored, as models from 1e9 weights on are run',
      ).choices(['whole', 'layered']),
    )
    .option('--device <id>', 'device that computes', deviceId, 'cpu')
    .option('--threads <n>', 'CPU threads of a session (default: all processors)', positiveInteger)
    .option('--json', 'print JSON')
    .action(async (checkpoint: string, expected: string, options: ParityFlags) => {
      const { parityCommand } = await import('./parity-command.ts');
      setExitCode(await parityCommand(checkpoint, expected, options, io));
    });

  const make = program.command('new').description('make something to start from');
  make
    .command('stage')
    .description('write the folder of a plugin: a stage of your own with types, tests and an example')
    .argument('<name>', 'folder to write; its last part is the name of the stage, e.g. stages/crop-images')
    .action(async (name: string) => {
      const { newStageCommand } = await import('./new-stage-command.ts');
      setExitCode(await newStageCommand(name, io));
    });
  make
    .command('checkpoint')
    .description('write a model folder with random weights, for dry runs of a size')
    .argument('<out>', 'folder to write; it must not exist')
    .requiredOption('--config <file>', 'config.json of the model; tokenizer and processor files beside it are copied')
    .option('--dtype <type>', 'float32, float16 or bfloat16 (also f32, f16, bf16)', floatType, 'bfloat16')
    .option('--seed <n>', 'seed of the weights', wholeNumber, 1)
    .option('--max-shard-bytes <n>', 'size above which the weights are split over files', byteCount, 5e9)
    .action(async (out: string, options: NewCheckpointFlags) => {
      const { newCheckpointCommand } = await import('./new-checkpoint-command.ts');
      setExitCode(await newCheckpointCommand(out, options, io));
    });

  program
    .command('schema')
    .description('print the JSON Schema of pipelines for editors, with the options of plugins')
    .argument('[names...]', 'pipeline files whose plugins to include, or plugins as `uses` names them')
    .action(async (names: string[]) => {
      const { schemaCommand } = await import('./schema-command.ts');
      setExitCode(await schemaCommand(names, io));
    });

  for (const command of program.commands) {
    command.configureHelp({ showGlobalOptions: false });
  }
  return program;
}

export interface CheckFlags {
  readonly set: readonly string[];
  readonly json?: boolean;
}

export interface CheckCommandFlags extends CheckFlags {
  /** Whether to look at data, models and disk. */
  readonly data: boolean;
  readonly jobs: number;
  readonly device: string;
  readonly threads?: number;
  readonly workspace?: string;
}

export interface SelectionFlags {
  readonly only?: readonly string[];
  readonly from?: readonly string[];
  readonly until?: readonly string[];
  /** `true`: all stages. */
  readonly force?: true | readonly string[];
}

export interface GraphFlags extends CheckFlags, SelectionFlags {
  readonly format: GraphFormat;
  readonly cells?: boolean;
}

export interface PlanFlags extends CheckFlags, SelectionFlags {
  readonly device: string;
  readonly threads?: number;
  readonly workspace?: string;
}

export interface RunFlags extends PlanFlags {
  readonly jobs: number;
  readonly keepGoing?: boolean;
  readonly lock?: boolean;
  readonly locked?: boolean;
  readonly dryRun?: boolean;
}

export interface WorkspaceFlags {
  readonly workspace?: string;
  readonly json?: boolean;
}

export type ShowFlags = WorkspaceFlags;

export interface RunsFlags extends ShowFlags {
  readonly last: number;
}

export interface LogsFlags {
  readonly workspace?: string;
  readonly run: string;
  readonly follow?: boolean;
}

export interface ReproFlags extends WorkspaceFlags {
  readonly into?: string;
  readonly metricsOnly?: boolean;
  readonly jobs: number;
}

export interface GcFlags extends WorkspaceFlags {
  readonly keep: number;
  readonly dryRun?: boolean;
}

export interface PinFlags extends WorkspaceFlags {
  readonly off?: boolean;
}

function workspaceCommand(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('-w, --workspace <dir>', 'workspace, or the folder that holds it (default: ./.fr1 or ./pipelines/.fr1)');
}

function pipelineCommand(program: Command, name: string, description: string): Command {
  return selectionOptions(program.command(name))
    .description(description)
    .option('--device <ids>', 'devices for stages that compute, separated by commas', deviceList, 'cpu')
    .option('--threads <n>', 'CPU threads of a session (default: all processors)', positiveInteger)
    .option('-w, --workspace <dir>', 'where results are kept (default: .fr1 beside the pipeline file)');
}

function selectionOptions(command: Command): Command {
  return command
    .argument('<file>', 'pipeline file')
    .option('-s, --set <path=value>', 'change a value of the pipeline, e.g. vars.steps=10', collect, [])
    .option('--only <stages>', 'only these stages and what they need, separated by commas', commaList)
    .option('--from <stages>', 'only these stages, what follows from them, and what those need', commaList)
    .option('--until <stages>', 'nothing that follows from these stages', commaList);
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

/** `fr1 run --force file.yaml` forces everything; the file is no stage's name. */
function withBareForceLast(argv: readonly string[]): string[] {
  const at = argv.findIndex((arg, i) => arg === '--force' && /\.ya?ml$/i.test(argv[i + 1] ?? ''));
  return at === -1 ? [...argv] : [...argv.slice(0, at), ...argv.slice(at + 1), '--force'];
}

function commaList(value: string, before: readonly string[] | undefined | true): readonly string[] {
  const earlier = Array.isArray(before) ? (before as readonly string[]) : [];
  const names = value.split(',').map((name) => name.trim());
  if (names.includes('')) throw new InvalidArgumentError('a name between the commas is empty');
  return [...earlier, ...names];
}

function positiveInteger(value: string): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < 1 || number > 4096)
    throw new InvalidArgumentError('a whole number from 1 on is needed');
  return number;
}

function wholeNumber(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError('a whole number from 0 on is needed');
  return Number(value);
}

function byteCount(value: string): number {
  const number = Number(value);
  if (!/^\d+(e\d+)?$/.test(value) || !(number >= 1 && number <= 1e12)) {
    throw new InvalidArgumentError('a whole number of bytes is needed, e.g. 5e9');
  }
  return number;
}

/** The element type of weights under its own or its short name. */
function floatType(value: string): FloatDType {
  const names = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' } as const;
  const name = Object.entries(names).find(([short, long]) => value === short || value === long)?.[1];
  if (name === undefined) throw new InvalidArgumentError('a type of weights is float32, float16 or bfloat16');
  return name;
}

function deviceId(value: string): string {
  if (!/^(cpu|webgpu|cuda)(:\d+)?$/.test(value)) {
    throw new InvalidArgumentError('a device is `cpu`, `webgpu` or `cuda:<number>`');
  }
  return value;
}

function deviceList(value: string): string {
  return value
    .split(',')
    .map((id) => deviceId(id.trim()))
    .join(',');
}

/** Commander's message in fr1's form. */
function argumentError(error: CommanderError, command: string): Fr1Error {
  const [first = '', ...more] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = more
    .join(' ')
    .replace(/^\((.*)\)$/, '$1')
    .trim();
  const hint = suggestion
    ? suggestion.charAt(0).toLowerCase() + suggestion.slice(1)
    : `${command} --help shows what it takes`;
  return new Fr1Error('CLI_ARGUMENTS', first, { hint });
}

/** Errors shown at once; a file that is wrong throughout would push the first ones out of sight. */
const SHOWN_ERRORS = 20;

function printError(error: unknown, io: CliIo): number {
  reportErrorToGithub(error, io);
  const hidden = error instanceof Fr1Errors ? Math.max(0, error.errors.length - SHOWN_ERRORS) : 0;
  const shown = error instanceof Fr1Errors && hidden > 0 ? new Fr1Errors(error.errors.slice(0, SHOWN_ERRORS)) : error;
  io.stderr.write(`${formatError(shown, { colour: wantsColour(io), stack: wantsStack(io.env) })}\n`);
  if (hidden > 0) io.stderr.write(`and ${hidden} more\n`);
  return exitCodeOf(error);
}
