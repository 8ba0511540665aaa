/** Open-ended questions of the task; none of them is asked in the base's pre-training. */
export const QUESTIONS: readonly string[] = [
  'What species is this bird?',
  'Which bird is in the image?',
  'What is the name of this bird?',
  'Name the bird in this image.',
  'Which bird species is shown?',
  'Can you name this bird?',
];
