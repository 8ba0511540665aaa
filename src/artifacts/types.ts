/**
 * The typed hand-offs between stages. An artifact is a directory in the store; its type fixes what the directory holds.
 * Paths inside rows are relative to that directory and use `/`.
 */

export const ARTIFACT_TYPES = {
  'image-data': 'labelled images: dataset.json, rows.jsonl (ImageRow), images/',
  'eval-data': 'multiple-choice test items: dataset.json, rows.jsonl (EvalRow), images/',
  'sft-data': 'chats with one image: data.json in LLaMA-Factory sharegpt form, images/',
  'triplet-data': 'anchor, positive, negative: dataset.json, rows.jsonl (TripletRow), images/',
  checkpoint:
    'a Hugging Face model folder: config.json, *.safetensors, tokenizer and processor files; or an adapter with such a folder in base/',
  adapter: 'a LoRA adapter in the format of PEFT: adapter_config.json, adapter_model.safetensors',
  predictions: 'one row per test item and mode: rows.jsonl (PredictionRow), evaluation.json (EvaluationInfo)',
  metrics: 'metrics.json (MetricsFile)',
  rollouts: 'sampled answers of a policy with their rewards, for reading: rollouts.jsonl',
  files: 'any files: what they mean is between the stage that makes them and the one that takes them',
} as const;

export type ArtifactType = keyof typeof ARTIFACT_TYPES;

/** An artifact as a stage sees it: read-only. */
export interface Artifact {
  readonly type: ArtifactType;
  /** Absolute path of the directory. */
  readonly path: string;
  /** Content digest, `sha256:<hex>`. */
  readonly digest: string;
}

/** dataset.json */
export interface DatasetInfo {
  readonly name: string;
  /** What all classes have in common, e.g. `bird`. */
  readonly superCategory: string;
  readonly split: 'train' | 'seen' | 'unseen';
  readonly classes: readonly string[];
  readonly rows: number;
  /** Groups that a class belongs to, coarse before fine, where they are known. */
  readonly groups?: Readonly<Record<string, readonly string[]>>;
  /** By which choices the rows were made, for the record. */
  readonly choices?: Readonly<Record<string, string | number | boolean>>;
}

export interface ImageRow {
  readonly id: string;
  readonly image: string;
  readonly label: string;
  readonly question: string;
  /** Known visual attributes, where the source has them. */
  readonly attributes?: Readonly<Record<string, string>>;
}

export interface EvalRow {
  readonly id: string;
  readonly image: string;
  readonly label: string;
  readonly question: string;
  /** Four distinct labels, the right one among them, in the order in which the source lists them. */
  readonly options: readonly string[];
  /** Path of the image as the source names it, where it does. */
  readonly sourcePath?: string;
}

export interface TripletRow {
  readonly id: string;
  readonly anchor: string;
  readonly positive: string;
  readonly negative: string;
  /** As it stands in the source; where it has a mark `<image>`, that is the place of the image, which else comes first. */
  readonly question: string;
  readonly label: string;
  /** Absent where the data was made elsewhere and does not tell. */
  readonly negativeLabel?: string;
  /** In the order in which they are shown, the label among them; absent where the question offers none. */
  readonly options?: readonly string[];
}

/** One element of data.json of sft-data. */
export interface SftRow {
  readonly messages: readonly { readonly role: 'system' | 'user' | 'assistant'; readonly content: string }[];
  readonly images: readonly string[];
}

export interface PredictionRow {
  readonly id: string;
  readonly label: string;
  readonly options?: readonly string[];
  readonly output: string;
  /** null when the output has no answer tags. */
  readonly answer: string | null;
  readonly correct: boolean;
  readonly strictlyCorrect: boolean;
  /** Closed world: whether the answer is one of the options. */
  readonly isOption?: boolean;
  /** Open world: nearness in meaning to the label, relative to that of the super-category, in [0, 1]. */
  readonly similarity?: number;
  /** Name of the test set, e.g. `unseen`. */
  readonly split?: string;
  readonly mode?: 'closed' | 'open';
  /** Whether the output ended by itself or at the token limit. */
  readonly finishReason?: 'stop' | 'length';
}

/** evaluation.json: under which rules predictions were made and scored. Accuracies under different rules do not compare. */
export interface EvaluationInfo {
  readonly version: 1;
  readonly rules: {
    /** A contrastive model, which is shown labels and writes nothing; absent where a model writes its answers. */
    readonly method?: 'contrastive';
    /** Name and version of the prompt of each mode, e.g. `compact/closed@1`; `unknown` for answers of result files, whose decoding is null; the label's description where a model is contrastive. */
    readonly prompts: Readonly<Partial<Record<'closed' | 'open', string>>>;
    readonly optionOrder: string;
    readonly optionSeed: number;
    readonly standardFrom: string;
    readonly openFallback: string;
    readonly emptyCarLabel: string;
    readonly maxNewTokens: number | null;
    readonly temperature: number | null;
    readonly topP: number | null;
    /** 0: all. */
    readonly topK: number | null;
    readonly repetitionPenalty: number | null;
    /** Absent in evaluations before this was recorded. */
    readonly set?: string;
    readonly minPixels?: number | null;
    readonly maxPixels?: number | null;
    /** What texts were embedded with, or null without similarities. */
    readonly similarity?: string | null;
  };
  readonly splits: readonly {
    readonly name: string;
    /** Digest of the test data. */
    readonly data: string;
    readonly superCategory: string;
    /** Items evaluated. */
    readonly items: number;
  }[];
  readonly model: string;
  readonly seed: number;
}

export interface Metric {
  readonly value: number;
  /** 95 % confidence interval. */
  readonly low?: number;
  readonly high?: number;
  readonly n?: number;
}

export interface MetricsFile {
  readonly version: 1;
  readonly metrics: Readonly<Record<string, Metric>>;
}
