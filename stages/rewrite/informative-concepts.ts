/**
 * Selection of concepts by the information that they carry about the image, in the space of a text model.
 *
 * What is ours: nobody publishes the concepts that Fine-R1 chose among, and there is no list of them for a class. An image's
 * concepts are here the lines of its own captions, each once; the measure and the threshold are the published ones.
 */
import type { TextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import { finiteVector } from '../../src/engine/embedding/transformers-model.ts';
import { informationScores, informativeConcepts } from '../../src/methods/concept-selection.ts';
import { type Captioned, type ConceptSelector, featuresOf } from './concepts.ts';

const TEXTS_AT_ONCE = 32;

interface Vectors {
  readonly captions: readonly Float32Array[];
  readonly features: readonly string[];
  readonly concepts: readonly Float32Array[];
}

/**
 * Embeds all captions and features once.
 *
 * @throws SCORES_NOT_FINITE when a vector of the model holds no numbers
 */
export async function informationSelector(
  images: readonly Captioned[],
  embedder: TextEmbedder,
  { temperature, signal }: { readonly temperature: number; readonly signal: AbortSignal },
): Promise<ConceptSelector> {
  const features = images.map(({ captions }) => distinct(captions.flatMap(featuresOf)));
  const texts = [...new Set([...images.flatMap(({ captions }) => captions), ...features.flat()])];
  // Texts of similar length pad each other little.
  texts.sort((a, b) => a.length - b.length);
  const vectors = new Map<string, Float32Array>();
  for (let at = 0; at < texts.length; at += TEXTS_AT_ONCE) {
    signal.throwIfAborted();
    const part = texts.slice(at, at + TEXTS_AT_ONCE);
    const embedded = await embedder.embed(part);
    for (const [i, text] of part.entries()) vectors.set(text, finiteVector(embedded[i]!, embedder.name));
  }
  const of = (text: string) => vectors.get(text)!;
  const known = new Map<Captioned, Vectors>(
    images.map((image, i) => [
      image,
      { captions: image.captions.map(of), features: features[i]!, concepts: features[i]!.map(of) },
    ]),
  );
  return (image, count) => {
    const { captions, features, concepts } = known.get(image)!;
    const others = images.flatMap((each) => (each === image ? [] : known.get(each)!.captions));
    const scores = informationScores(concepts, captions, others, temperature);
    return informativeConcepts(scores, count).map((place) => features[place]!);
  };
}

/** Each text once, whatever its case. */
function distinct(texts: readonly string[]): string[] {
  const first = new Map<string, string>();
  for (const text of texts) if (!first.has(text.toLowerCase())) first.set(text.toLowerCase(), text);
  return [...first.values()];
}
