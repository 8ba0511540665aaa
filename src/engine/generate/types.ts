/**
 * What generation takes and gives: token ids and image patches in, token ids out. Knows no text and no file.
 */

/** One image as the vision tower reads it. */
export interface ImagePatches {
  /** [P, 1176] normalised patches: 3 channels x 2 frames x 14 x 14. */
  readonly pixels: Float32Array;
  /** Patches along time, height and width; their product is P. */
  readonly grid: readonly [time: number, height: number, width: number];
}

export interface GenerationRequest {
  /** [T] with one image token for every merged patch of the images. */
  readonly inputIds: Int32Array;
  readonly images: readonly ImagePatches[];
  /** Fixes the noise of the request; its samples draw from streams of their own. */
  readonly seed: number;
}

export interface SamplingOptions {
  readonly maxNewTokens: number;
  /** 0 takes the likeliest token. */
  readonly temperature: number;
  /** Smallest set of likeliest tokens with at least this probability; 1 keeps all. */
  readonly topP: number;
  /** Number of likeliest tokens kept; 0 keeps all. */
  readonly topK: number;
  /** Divides the positive and multiplies the negative logits of tokens seen so far; 1 changes nothing. */
  readonly repetitionPenalty: number;
  /** A completion ends with the first of these, which belongs to it. */
  readonly stopTokenIds: readonly number[];
  /** Never sampled. */
  readonly bannedTokenIds: readonly number[];
  /** Completions per request; they share the prompt's computation. */
  readonly samplesPerRequest: number;
}

export interface Completion {
  /** The stop token included, where there is one. */
  readonly tokenIds: readonly number[];
  /**
   * Of each token at the sampling temperature with banned tokens left out, before top-k and top-p; null with a repetition
   * penalty and at temperature 0, where no probabilities are computed.
   */
  readonly logProbs: readonly number[] | null;
  readonly finishReason: 'stop' | 'length';
}

export interface GenerationOptions {
  readonly signal?: AbortSignal | undefined;
  /** Completions finished so far, and all. */
  onProgress?(done: number, total: number): void;
}

export interface Generator {
  /** -> for each request its completions, `samplesPerRequest` of them. */
  generate(
    requests: readonly GenerationRequest[],
    sampling: SamplingOptions,
    options: GenerationOptions,
  ): Promise<Completion[][]>;
}
