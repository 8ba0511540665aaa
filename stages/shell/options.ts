/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Runs a command in any language. Paths go in as {input.NAME}, {output.NAME}, {state} and {metrics} in the arguments and as FR1_INPUT_NAME, FR1_OUTPUT_NAME, FR1_STATE and FR1_METRICS in the environment.
 */
export interface ShellOptions {
  /**
   * The program and its arguments, handed over one by one; no shell reads them. {input.NAME}, {output.NAME}, {state}, {metrics} and {seed} are replaced.
   *
   * @minItems 1
   */
  command?: string[];
  /**
   * Text for the system's shell instead of `command`, where a pipe or a loop is needed. Nothing in it is replaced: use the variables of the environment, in quotes.
   */
  script?: string;
  /**
   * Artifacts to read, by name.
   */
  inputs: {
    /**
     * An artifact or a local path.
     */
    [k: string]: Artifact;
  };
  /**
   * Local files and folders that the command reads, such as its script: when one changes, the stage runs again.
   *
   * Items: A file or folder.
   */
  files: Artifact[];
  /**
   * What the command makes: types of artifacts by name. It fills the folder of each. Written out, without expressions.
   */
  outputs: {
    /**
     * Type of the artifact.
     */
    [k: string]:
      | 'image-data'
      | 'eval-data'
      | 'sft-data'
      | 'triplet-data'
      | 'checkpoint'
      | 'adapter'
      | 'predictions'
      | 'metrics'
      | 'rollouts'
      | 'files';
  };
  /**
   * Metrics that the command must write; others may be there, too. Written out, without expressions.
   */
  metrics: string[];
  /**
   * Variables for the command, besides those of fr1's own environment.
   */
  env: {
    [k: string]: string;
  };
  /**
   * Folder in which the command starts, from the pipeline file's folder.
   */
  cwd: string;
  /**
   * Whether it computes on the run's device: it then waits for it, and CUDA_VISIBLE_DEVICES names it. Without it the command sees no GPU.
   */
  device: boolean;
  /**
   * Seed instead of the one derived from the run's seed and the stage's name.
   */
  seed?: number;
}
