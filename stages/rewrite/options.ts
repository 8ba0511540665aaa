/** Generated from schema.json by scripts/generate-option-types.mjs; defaults count as given. */
import type { Artifact } from '../../src/run/stage-api.ts';

/**
 * Writes a chain of thought and an answer for every labelled image, and keeps those that pass the check.
 */
export interface RewriteOptions {
  /**
   * The labelled images.
   */
  data: Artifact;
  /**
   * Who writes. attributes: sentences from the known attributes of procedural-birds. openai: a vision-language model behind any OpenAI-compatible endpoint. native: a local checkpoint through fr1's own engine.
   */
  teacher: {
    /**
     * The teacher.
     */
    kind: 'attributes' | 'openai' | 'native';
    /**
     * openai: address of the endpoint up to /v1; that of OpenAI where it is not given.
     */
    baseUrl?: string;
    /**
     * openai: the model's name at the endpoint.
     */
    model?: string;
    /**
     * openai: name of the environment variable that holds the key, OPENAI_API_KEY where it is not given. The key itself is never written anywhere.
     */
    apiKeyEnv?: string;
    /**
     * openai: the field that bounds the length of an answer. Newer models of OpenAI refuse max_tokens and take max_completion_tokens; none sends no limit. max_tokens where it is not given.
     */
    tokenLimit?: 'max_tokens' | 'max_completion_tokens' | 'none';
    /**
     * openai: fields of a request that the server refuses. stream_options asks for counts of tokens, so that without it cost may be unknown; temperature and seed are then the server's own.
     */
    leaveOut?: ('stream_options' | 'temperature' | 'seed')[];
    /**
     * native: the Qwen2.5-VL model that writes.
     */
    checkpoint?: Artifact;
    /**
     * Tokens of a text at most; 1536 where it is not given.
     */
    maxNewTokens?: number;
    /**
     * Of the teacher's sampling; 0.8 where it is not given.
     */
    temperature?: number;
  };
  /**
   * Whether the answer is preceded by a chain of thought; without it only the answer is written.
   */
  thoughts: boolean;
  /**
   * Whether each image also gets a chat whose prompt offers four options, and in which family of prompts. Fine-R1 fine-tunes on open-ended questions only, which is `none`.
   */
  closedPrompts: 'none' | 'compact' | 'fine-r1';
  /**
   * openai: how the endpoint is asked. Nothing here changes the result, so a change does not run the stage again.
   */
  requests: {
    /**
     * Rows in work at a time; 8 where it is not given.
     */
    concurrency?: number;
    /**
     * Requests a minute at most; no limit where it is not given.
     */
    perMinute?: number;
    /**
     * A request that sends nothing for so long is given up and sent again; 60 where it is not given.
     */
    timeoutSeconds?: number;
    /**
     * How often a request is sent again after a failure, a stall or a refusal for its rate; 8 where it is not given.
     */
    retries?: number;
    /**
     * Price of a million tokens that are read, for the cost in the report.
     */
    inputPrice?: number;
    /**
     * Price of a million tokens that are written.
     */
    outputPrice?: number;
  };
  /**
   * Descriptions of each image that the teacher writes first, each with another emphasis; 3 where it is not given. For teachers that look at images.
   */
  captions?: number;
  /**
   * Features that are selected from the captions of an image for its thought, at most; 8 where it is not given.
   */
  concepts?: number;
  /**
   * How the features for a thought are selected. words: by counts of words in the captions, without a model, `concepts` of them. embedding: by the published measure, the information that a feature carries about the image, estimated with a text model from the captions of all images; those well above the image's mean, at least 3 and at most `concepts`. `words` where it is not given.
   */
  conceptSelection?: {
    /**
     * The measure.
     */
    by: 'words' | 'embedding';
    /**
     * embedding: a local folder of a text model with config.json, tokenizer.json and onnx/. The published code has e5-large-v2.
     */
    model?: Artifact;
    /**
     * embedding: a model of the Hugging Face hub with ONNX files instead, e.g. Xenova/e5-large-v2; needs the network once.
     */
    hub?: string;
    /**
     * Branch, tag or commit of the hub's model; main where it is not given.
     */
    revision?: string;
    /**
     * embedding: divides the cosines; 0.1 where it is not given.
     */
    temperature?: number;
  };
  /**
   * Candidate classes in a thought at most, the true one among them; 4 where it is not given.
   */
  candidates?: number;
  /**
   * How often a thought is written at most until one passes the check; 4 where it is not given.
   */
  attempts?: number;
  /**
   * Place of the true class among the candidates. shuffled: any; label-first: always the first, as in most of Fine-R1's chats. `shuffled` where it is not given.
   */
  candidateOrder?: 'shuffled' | 'label-first';
  /**
   * Scripts that a thought may be written in. latin: one with letters of another script is rejected; any: no check. `latin` where it is not given.
   */
  language?: 'latin' | 'any';
  /**
   * calls.jsonl of an earlier output, or the folder that holds it: answers that are in it are not asked for again.
   */
  reuse?: Artifact;
}
