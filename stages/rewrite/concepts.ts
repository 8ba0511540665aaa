/**
 * Which of the features that captions name go into a thought, told without a model: a feature is kept when it is tied to the
 * image (several captions of it say so) and tells about the class (captions of other classes rarely do).
 *
 * A stand-in made of counts of words for the published measure, which informative-concepts.ts has and which needs a text model.
 */

/** Words without content of their own. */
const EMPTY_WORDS = new Set(
  'a an the of on in at with and or to is are its it this that has have from by for as very more than which'.split(' '),
);

/** One feature a line; marks of lists at the start of a line and headings are dropped. */
export function featuresOf(caption: string): string[] {
  return caption
    .split('\n')
    .map((line) =>
      line
        .replace(/^[\s*•\-–\d.)#]+/, '')
        .replaceAll('**', '')
        .trim(),
    )
    .filter((line) => line !== '' && !line.endsWith(':'));
}

/** Captions of one image. */
export interface Captioned {
  readonly label: string;
  readonly captions: readonly string[];
}

/** Selects the features of an image; made from the captions of all images. */
export type ConceptSelector = (image: Captioned, count: number) => string[];

export function conceptSelector(images: readonly Captioned[]): ConceptSelector {
  const labels = new Set(images.map(({ label }) => label));
  /** By word the classes whose captions use it. */
  const classesOf = new Map<string, Set<string>>();
  for (const { label, captions } of images) {
    for (const word of new Set(captions.flatMap(contentWords))) {
      const classes = classesOf.get(word);
      if (classes === undefined) classesOf.set(word, new Set([label]));
      else classes.add(label);
    }
  }
  return ({ captions }, count) => {
    const wordsOfCaptions = captions.map((caption) => new Set(contentWords(caption)));
    const score = (word: string): number => {
      const agreement = wordsOfCaptions.filter((words) => words.has(word)).length / captions.length;
      return agreement * Math.log((1 + labels.size) / (classesOf.get(word)?.size ?? 1));
    };
    const scored = captions.flatMap(featuresOf).map((feature) => {
      const words = contentWords(feature);
      return { feature, words, score: words.reduce((sum, word) => sum + score(word), 0) / Math.max(1, words.length) };
    });
    // Sorting keeps the order of equals. A feature whose words are said already adds nothing.
    const chosen: string[] = [];
    const said = new Set<string>();
    for (const { feature, words } of scored.sort((a, b) => b.score - a.score)) {
      if (chosen.length === count) break;
      if (words.every((word) => said.has(word))) continue;
      for (const word of words) said.add(word);
      chosen.push(feature);
    }
    return chosen;
  };
}

function contentWords(text: string): string[] {
  return (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).filter((word) => !EMPTY_WORDS.has(word));
}
