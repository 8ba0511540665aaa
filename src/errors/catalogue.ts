/**
 * Every error code with its explanation. `docs/errors.md` is generated from this table.
 *
 * `exit` is the process exit code when the error ends a command: 1 a stage failed, 2 the user's input is wrong.
 */
export interface CatalogueEntry {
  readonly exit: 1 | 2;
  /** When it happens and why, one or two sentences. */
  readonly explanation: string;
}

export const CATALOGUE = {
  // pipeline file
  PIPELINE_FILE_MISSING: { exit: 2, explanation: 'There is no pipeline file at the given path.' },
  PIPELINE_FILE_UNREADABLE: {
    exit: 2,
    explanation:
      'The pipeline file exists but cannot be read as UTF-8 text: a folder, missing rights, or another encoding.',
  },
  YAML_SYNTAX: { exit: 2, explanation: 'The pipeline file is not well-formed YAML 1.2.' },
  YAML_TAB_INDENTATION: { exit: 2, explanation: 'A line is indented with a tab; YAML allows spaces only.' },
  YAML_DUPLICATE_KEY: { exit: 2, explanation: 'A mapping has the same key twice; the second would silently win.' },
  YAML_MULTIPLE_DOCUMENTS: {
    exit: 2,
    explanation: 'The file holds several YAML documents; a pipeline is one document.',
  },
  YAML_ALIAS_UNKNOWN: { exit: 2, explanation: 'A YAML alias names an anchor that is not defined above it.' },
  YAML_ALIAS_EXPANSION: {
    exit: 2,
    explanation: 'Aliases refer to themselves or expand to more values than a pipeline may hold.',
  },
  YAML_UNSUPPORTED: {
    exit: 2,
    explanation: 'The file uses a part of YAML that pipelines leave out: custom tags, or keys that are not plain text.',
  },

  // pipeline: values
  KEY_UNKNOWN: { exit: 2, explanation: 'A mapping has a key that nothing reads, most often a misspelt one.' },
  KEY_MISSING: {
    exit: 2,
    explanation: 'A required key or option is absent; the position is that of the mapping that lacks it.',
  },
  VALUE_TYPE: {
    exit: 2,
    explanation: 'A value has another type than the schema asks for, e.g. text where a number must stand.',
  },
  VALUE_RANGE: { exit: 2, explanation: 'A number, text or list is outside the bounds that the schema sets.' },
  VALUE_NOT_ALLOWED: { exit: 2, explanation: 'A value is not one of the listed choices.' },
  VALUE_INVALID: { exit: 2, explanation: 'A value breaks a rule of the schema other than type, bounds or choices.' },
  OPTION_CONFLICT: { exit: 2, explanation: 'A stage rejects a combination of options that are each valid alone.' },

  // pipeline: names and references
  EXPRESSION_SYNTAX: {
    exit: 2,
    explanation: 'The text between ${{ and }} is not a path such as vars.name or stages.name.outputs.name.',
  },
  EXPRESSION_UNKNOWN_NAME: {
    exit: 2,
    explanation:
      'An expression starts with a name other than vars, stages or seed, or stands where that name is not available.',
  },
  VARIABLE_UNKNOWN: { exit: 2, explanation: 'An expression reads a variable that vars does not define.' },
  VARIABLE_UNUSED: {
    exit: 2,
    explanation: 'A variable is defined but no expression reads it, most often because of a misspelt name.',
  },
  VARIABLE_CYCLE: { exit: 2, explanation: 'Variables refer to each other in a circle, so that none has a value.' },
  STAGE_KIND_UNKNOWN: { exit: 2, explanation: '`uses` names a stage kind that does not exist.' },
  STAGE_UNKNOWN: { exit: 2, explanation: 'An expression refers to a stage that the pipeline does not have.' },
  STAGE_UNKNOWN_NEED: { exit: 2, explanation: '`needs` names a stage that the pipeline does not have.' },
  STAGE_CYCLE: { exit: 2, explanation: 'Stages wait for each other in a circle, so that none can start.' },
  OUTPUT_UNKNOWN: { exit: 2, explanation: 'An expression refers to an output that the stage does not have.' },
  OUTPUT_EMPTY: {
    exit: 2,
    explanation: 'An option takes an output in which the options of the stage that makes it leave nothing.',
  },
  METRIC_UNKNOWN: { exit: 2, explanation: '`expect` names a metric that the stage does not return.' },
  ARTIFACT_TYPE: { exit: 2, explanation: 'A stage is given an artifact of a type that the option does not take.' },
  ARTIFACT_MISPLACED: {
    exit: 2,
    explanation: 'An output of a stage is used as text, or in an option that takes no artifact.',
  },
  INPUT_MISSING: { exit: 2, explanation: 'An option names a local folder that does not exist.' },
  INPUT_INVALID: {
    exit: 2,
    explanation: 'An option names a local folder that does not hold what its artifact type needs.',
  },

  // pipeline: language
  EXTENDS_UNREADABLE: {
    exit: 2,
    explanation: 'A file named under `extends` is missing, unreadable, or extends itself in a circle.',
  },
  MATRIX_INVALID: {
    exit: 2,
    explanation:
      'A matrix has no cells left, too many, or an `include` or `exclude` that names an axis or value it does not have.',
  },
  EXPRESSION_TYPE: {
    exit: 2,
    explanation: 'An operator or function of an expression is given a value of a kind that it does not take.',
  },
  CONDITION_INVALID: {
    exit: 2,
    explanation: 'The `if` of a stage is not true or false, or compares a metric that the other stage did not return.',
  },
  STAGE_UNREACHABLE: {
    exit: 2,
    explanation: 'A stage can never run: its condition is never met, or it takes an output of a stage that never runs.',
  },
  DURATION_INVALID: { exit: 2, explanation: 'A duration or size is not a number with a known unit.' },
  ENV_UNDECLARED: {
    exit: 2,
    explanation: 'An expression reads a variable of the environment that the pipeline does not declare under `env`.',
  },
  ENV_MISPLACED: {
    exit: 2,
    explanation: 'A secret stands where it would be printed or stored: anywhere but in the options of a stage.',
  },
  ENV_UNUSED: { exit: 2, explanation: 'A variable of the environment is declared but no expression reads it.' },
  ENV_MISSING: { exit: 2, explanation: 'A declared variable of the environment is not set.' },
  ENV_TOO_SHORT: {
    exit: 2,
    explanation: 'A declared variable of the environment is so short that it could not be masked in logs.',
  },
  OUTPUT_PATH_INVALID: {
    exit: 2,
    explanation: 'An output of the pipeline names a place outside its folder, in the workspace, or one already taken.',
  },

  // command line
  SET_SYNTAX: { exit: 2, explanation: 'An override given with --set is not of the form path=value.' },
  SET_PATH_UNKNOWN: {
    exit: 2,
    explanation: 'An override given with --set names a place that the pipeline does not have.',
  },
  SELECTION_UNKNOWN_STAGE: { exit: 2, explanation: '--only or --force names a stage that the pipeline does not have.' },
  SELECTION_NOT_PLANNED: { exit: 2, explanation: '--force names a stage that --only leaves out.' },

  // plugins
  PLUGIN_MISSING: {
    exit: 2,
    explanation: '`uses` names a path that does not exist, or a package that is not installed beside the pipeline.',
  },
  PLUGIN_INVALID: {
    exit: 2,
    explanation: '`uses` names a module that cannot be loaded or whose default export is not a stage.',
  },
  INPUT_REJECTED: {
    exit: 2,
    explanation: 'A stage cannot use what it was given: the data, a file or a value; the message says why.',
  },

  // stages
  STAGE_SCHEMA_INVALID: {
    exit: 1,
    explanation:
      'The option schema of a stage is missing or is not a valid JSON Schema: a fault of the stage, not of the pipeline.',
  },

  // engine: graph and ops
  SHAPE_MISMATCH: { exit: 1, explanation: 'An operator was given tensors whose shapes do not fit together.' },
  DTYPE_MISMATCH: { exit: 1, explanation: 'An operator was given a tensor of an element type it does not take.' },
  GRADIENT_FORBIDDEN: {
    exit: 1,
    explanation: 'A gradient was asked for through an operator that has none, for a stated reason.',
  },
  // engine: runtime
  RUNTIME_UNAVAILABLE: { exit: 1, explanation: 'The onnxruntime library could not be loaded or is too old.' },
  RUNTIME_SESSION_FAILED: { exit: 1, explanation: 'onnxruntime refused a graph or its weights.' },
  RUNTIME_FEED_INVALID: {
    exit: 1,
    explanation:
      'A session was given an input or asked for an output whose name, element type, shape or size is wrong.',
  },
  RUNTIME_RUN_FAILED: { exit: 1, explanation: 'onnxruntime failed while running a graph.' },
  RUNTIME_RELEASED: { exit: 1, explanation: 'A session or lease was used after it had been released.' },

  // devices
  DEVICE_UNAVAILABLE: { exit: 2, explanation: 'The device asked for does not exist here or cannot be used.' },
  MEMORY_SHORT: {
    exit: 2,
    explanation:
      'A training or a generation would need more memory than the machine has; the message says what for and the hint which options make it smaller.',
  },
  DEVICE_MEMORY: { exit: 1, explanation: 'More memory was asked for than the device has.' },

  // artifacts and workspace
  ARTIFACT_INVALID: {
    exit: 1,
    explanation: 'An output or a local input holds something that is not a file or folder.',
  },
  DATA_UNREADABLE: { exit: 2, explanation: 'A file that an artifact of this type must hold is missing or unreadable.' },
  DATA_ROW_INVALID: {
    exit: 2,
    explanation: 'A row of a data file is not JSON, lacks a field or holds a value that cannot be; the row is named.',
  },
  DATA_INSUFFICIENT: {
    exit: 2,
    explanation: 'The data has too few rows or classes for what a stage makes of it, e.g. one image of a class.',
  },
  TEACHER_REFUSED: {
    exit: 2,
    explanation:
      'The endpoint that writes chains of thought rejects the key, the model, the address or a field of the requests, or the key is not set.',
  },
  TEACHER_UNREACHABLE: {
    exit: 1,
    explanation:
      'The endpoint that writes chains of thought did not answer a request in all attempts; what it answered before is kept.',
  },
  WORKSPACE_LOCKED: { exit: 2, explanation: 'Another run is using the same workspace; one run at a time may.' },
  WORKSPACE_UNREADABLE: {
    exit: 2,
    explanation: 'A file that fr1 keeps in the workspace cannot be read, or comes from a newer version.',
  },

  WORKSPACE_MISSING: { exit: 2, explanation: 'A command that looks after a workspace found none at that place.' },
  WORKSPACE_NOT_WRITABLE: {
    exit: 2,
    explanation: 'The workspace, or a folder that a stage writes to, is read-only or belongs to another user.',
  },
  DISK_ROOM: {
    exit: 2,
    explanation: '`fr1 check` found less room on the disk than the stages will need for models and training states.',
  },
  DISK_FULL: {
    exit: 1,
    explanation:
      'The disk or the quota is full. Finished stages and saved training states are kept; the run goes on from there.',
  },
  STORE_DAMAGED: {
    exit: 1,
    explanation: '`fr1 verify` found artifacts that are not what their digests say. The next run makes them again.',
  },

  // run
  STAGE_FAILED: { exit: 1, explanation: 'A stage threw an error that fr1 does not know; the cause is shown with it.' },
  LOCK_MISSING: { exit: 2, explanation: 'A run was to follow a lock, but there is none at that place.' },
  LOCK_INVALID: { exit: 2, explanation: 'A lock cannot be read, or comes from another version of fr1.' },
  LOCK_DIFFERS: {
    exit: 1,
    explanation:
      'A run under `--locked`, or `fr1 repro`, resolved to something else than its lock says; the first entry is named.',
  },
  REPRODUCTION_DIFFERS: {
    exit: 1,
    explanation: '`fr1 repro` ran what the lock says and got other digests or metrics.',
  },
  STAGE_TIMEOUT: { exit: 1, explanation: 'A stage did not end within its `timeout`; what it has saved is kept.' },
  OUTPUT_PLACE_TAKEN: {
    exit: 2,
    explanation: 'A place named under `outputs` holds files that fr1 did not put there, or that were changed since.',
  },
  STAGE_RESULT_INVALID: {
    exit: 1,
    explanation: 'A stage ended without filling a declared output, or returned a metric that is not a finite number.',
  },
  EXPECTATION_FAILED: { exit: 1, explanation: 'A metric of a finished stage lies outside the bounds under `expect`.' },

  // command line
  CLI_ARGUMENTS: { exit: 2, explanation: 'A command, an option or an argument is unknown, missing or malformed.' },
  MODEL_NOT_FETCHED: {
    exit: 1,
    explanation:
      'A model of the Hugging Face hub could not be downloaded: no network, no such model, or no access to it.',
  },
  PARITY_FILE_INVALID: {
    exit: 2,
    explanation:
      'A file given to `fr1 parity` lacks a tensor, holds one that is nothing to compare (a wrong name would pass for agreement), or does not fit the model or the batch.',
  },
  RUN_UNKNOWN: {
    exit: 2,
    explanation:
      'A command was asked for a run that the workspace does not hold, or to compare a first run with one before it.',
  },
  // methods
  PREDICTIONS_DIFFER: {
    exit: 2,
    explanation:
      'Predictions to be compared were made on different test items or under different prompts or scoring rules.',
  },
  GROUP_TOO_SMALL: {
    exit: 1,
    explanation: 'An advantage compares the responses to one question; a single response has nothing to compare with.',
  },
  // engine: generation
  SAMPLING_INVALID: {
    exit: 1,
    explanation: 'A sampling option is outside its range, or a prompt is empty or holds tokens the model lacks.',
  },
  SCORES_NOT_FINITE: {
    exit: 1,
    explanation: 'The model gave probabilities that are not numbers, mostly because its training diverged.',
  },
  // engine: training
  TRAINING_DIVERGED: {
    exit: 1,
    explanation: 'The loss or a gradient is no longer a finite number, mostly because the learning rate is too high.',
  },
  // engine: weights, model folders, images
  TENSOR_UNKNOWN: { exit: 1, explanation: 'A weight was asked for by a name that the file or model does not have.' },
  SAFETENSORS_INVALID: {
    exit: 2,
    explanation:
      'The header of a .safetensors file contradicts itself or the file: a damaged file or one of another format.',
  },
  SAFETENSORS_TRUNCATED: {
    exit: 2,
    explanation: 'A .safetensors file is shorter than its header says, mostly because a download did not finish.',
  },
  CHECKPOINT_UNREADABLE: {
    exit: 2,
    explanation: 'A file that a model folder needs is missing, cannot be opened or is not what its name says.',
  },
  CHECKPOINT_MISMATCH: {
    exit: 2,
    explanation: 'The weights of a model folder are not those that its config.json describes: names or shapes differ.',
  },
  CHECKPOINT_WRITE_FAILED: { exit: 1, explanation: 'A model folder or one of its files could not be written.' },
  ADAPTER_UNREADABLE: {
    exit: 2,
    explanation:
      'An adapter folder lacks a file, its base, or holds another kind of adapter than LoRA over linear layers.',
  },
  ADAPTER_MISMATCH: {
    exit: 2,
    explanation: 'The matrices of an adapter do not fit the layers of its base model: names or shapes differ.',
  },
  ADAPTER_TARGET_UNKNOWN: {
    exit: 2,
    explanation: 'The names or the regular expression of the layers to adapt match no linear layer that is trained.',
  },
  MODEL_CONFIG_INVALID: {
    exit: 2,
    explanation: 'A config.json describes a model that fr1 does not know, or one whose sizes cannot be.',
  },
  TOKENIZER_INVALID: {
    exit: 2,
    explanation:
      'The tokenizer, chat template or processor files of a model folder are missing or do not fit together.',
  },
  IMAGE_UNREADABLE: { exit: 2, explanation: 'An image file is missing, damaged, too large or of an unknown format.' },
  IMAGE_COUNT_MISMATCH: {
    exit: 2,
    explanation: 'The number of image markers or image tokens in a text is not that of the images given with it.',
  },
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof CATALOGUE;
