/** What a teacher is asked. A changed text makes other calls: answers to the old one are not taken for it. */

/** What each caption of an image stresses; more captions than there are start over. */
const EMPHASES = [
  'its overall shape, size and proportions',
  'its colours, patterns and textures, part by part',
  'small parts and markings that few similar ones have',
  'its pose or setting and how parts relate to each other',
] as const;

export function captionPrompt(superCategory: string, index: number): string {
  return [
    `Describe the ${superCategory} in this image for an expert who cannot see it. Stress ${EMPHASES[index % EMPHASES.length]}.`,
    'Write one visible feature a line, at most ten lines, in English. Say only what can be seen; do not say what it is called.',
  ].join('\n');
}

export interface ThoughtQuestion {
  readonly superCategory: string;
  readonly question: string;
  readonly label: string;
  readonly concepts: readonly string[];
  readonly candidates: number;
}

export function thoughtPrompt({ superCategory, question, label, concepts, candidates }: ThoughtQuestion): string {
  return [
    `A student is asked about this image: "${question}" The right answer is "${label}". Write down the reasoning that leads a careful observer to it from what can be seen. Do not mention that the answer was known.`,
    `Features that were noted:\n${concepts.map((concept) => `- ${concept}`).join('\n')}`,
    [
      'Write exactly these four parts, in English, with these tags and nothing outside of them:',
      `<analysis>the visible features that matter, in a few sentences</analysis>`,
      `<options>a list of ${candidates} or fewer names of similar kinds of ${superCategory}, one a line, each after "- "; "${label}" is one of them</options>`,
      '<comparison>one line for each name of the list, each of the form "- name: which features speak for it or against it"</comparison>',
      `<prediction>${label}</prediction>`,
    ].join('\n'),
  ].join('\n\n');
}
