/**
 * The four naming attributes of a bird. Each value has a descriptive word, used in analyses, and a name word, used in
 * species names; all name words are distinct and none of them is a descriptive word.
 */

export interface AttributeValue {
  /** Descriptive word, e.g. `red` in `red crown`. */
  readonly word: string;
  /** The word that stands for this value in a species name. */
  readonly name: string;
}

export interface Attribute {
  readonly key: AttributeKey;
  /** The noun after the descriptive word. */
  readonly noun: string;
  readonly values: readonly AttributeValue[];
}

export const ATTRIBUTE_KEYS = ['crown', 'breast', 'wings', 'tail'] as const;
export type AttributeKey = (typeof ATTRIBUTE_KEYS)[number];

/** In the order in which a name lists them. */
export const ATTRIBUTES: readonly Attribute[] = [
  {
    key: 'crown',
    noun: 'crown',
    values: [
      { word: 'red', name: 'Ruby' },
      { word: 'yellow', name: 'Amber' },
      { word: 'green', name: 'Jade' },
      { word: 'blue', name: 'Azure' },
      { word: 'white', name: 'Snow' },
      { word: 'black', name: 'Coal' },
    ],
  },
  {
    key: 'breast',
    noun: 'breast',
    values: [
      { word: 'red', name: 'Flame' },
      { word: 'yellow', name: 'Honey' },
      { word: 'green', name: 'Moss' },
      { word: 'blue', name: 'River' },
      { word: 'white', name: 'Pearl' },
      { word: 'black', name: 'Night' },
    ],
  },
  {
    key: 'wings',
    noun: 'wings',
    values: [
      { word: 'grey', name: 'Stone' },
      { word: 'orange', name: 'Copper' },
      { word: 'purple', name: 'Plum' },
      { word: 'barred', name: 'Ladder' },
      { word: 'spotted', name: 'Comet' },
    ],
  },
  {
    key: 'tail',
    noun: 'tail',
    values: [
      { word: 'forked', name: 'Kite' },
      { word: 'fanned', name: 'Grouse' },
      { word: 'long', name: 'Magpie' },
      { word: 'short', name: 'Wren' },
      { word: 'striped', name: 'Falcon' },
    ],
  },
];

export const NAME_WORDS: readonly string[] = ATTRIBUTES.flatMap((attribute) =>
  attribute.values.map((value) => value.name),
);

export const DESCRIPTIVE_WORDS: readonly string[] = [
  ...new Set(ATTRIBUTES.flatMap((attribute) => attribute.values.map((value) => value.word))),
];
