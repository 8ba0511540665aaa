/** Open-ended questions about an image, with a word for what its classes have in common. */
const FORMS: readonly ((thing: string, kind: string) => string)[] = [
  (thing, kind) => `Which ${kind} of ${thing} does the image show?`,
  (thing) => `What is the ${thing} in this photo called?`,
  (thing, kind) => `Please name the ${kind} of the ${thing} in the picture.`,
  (thing) => `Do you recognise this ${thing}?`,
  (thing, kind) => `What ${kind} of ${thing} can be seen here?`,
  (thing) => `Which ${thing} is it?`,
  (thing, kind) => `Can you tell the ${kind} of this ${thing}?`,
  (thing) => `What would an expert call this ${thing}?`,
  (thing, kind) => `The image shows one ${thing}. Of which ${kind} is it?`,
  (thing) => `Name this ${thing} as exactly as you can.`,
];

const KINDS: Readonly<Record<string, string>> = {
  aircraft: 'model',
  car: 'model',
  bird: 'species',
  pet: 'breed',
  dog: 'breed',
};

/** Ten paraphrases for the super-category, e.g. `bird`. */
export function questionsAbout(superCategory: string): readonly string[] {
  const kind = KINDS[superCategory] ?? 'kind';
  return FORMS.map((form) => form(superCategory, kind));
}

/** The question without the mark that stands for its image. */
export function withoutImageMark(question: string): string {
  return question.replace('<image>', '').trim();
}
