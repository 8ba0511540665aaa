/**
 * Every quirk of Fine-R1's released code (Q1 to Q35), and what becomes of it here. docs/divergence.md is generated from this
 * table; a run's record names the switches of each stage, and this table says what they mean.
 */
import type { MethodSwitches } from './presets.ts';

interface Common {
  /** The quirk, in one sentence. */
  readonly quirk: string;
  /** What fr1 does. */
  readonly here: string;
  /** Whether it makes results unsound or a run fail, so that fr1 does otherwise by default. */
  readonly isFlaw?: true;
}

/**
 * `tests` are file and title of tests that show the behaviour. Of a flaw, and of whatever has a switch, at least one shows what the
 * released code does beside what fr1 does, and its title says so: it begins with the number and names what is `released`.
 */
export type Divergence = Common &
  (
    | {
        readonly treatment: 'switch';
        readonly switches: readonly (keyof MethodSwitches)[];
        /** Further choices of stages that are in no set. */
        readonly options?: readonly string[];
        readonly tests: readonly Test[];
      }
    | { readonly treatment: 'option'; readonly options: readonly string[]; readonly tests: readonly Test[] }
    | { readonly treatment: 'mended'; readonly tests: readonly Test[] }
    | { readonly treatment: 'kept' }
    | { readonly treatment: 'not applicable' }
  );

type Test = readonly [file: string, title: string];

const EVALUATE = 'stages/eval/evaluate.test.ts';
const IMPORTED = 'stages/eval/imported.test.ts';
const SCORING = 'src/methods/scoring.test.ts';
const IMPORT = 'stages/dataset/import.test.ts';
const SFT = 'stages/sft/stage.test.ts';
const RECIPE = 'src/engine/recipes/tapo.test.ts';
const STAGE = 'stages/tapo/stage.test.ts';
const GROUPING = 'stages/tapo/grouping.test.ts';

export const DIVERGENCES = {
  Q1: {
    quirk:
      'The right option is listed first in every test item, and nothing shuffles; so is the label in four of five thoughts.',
    here: 'eval shuffles the options of each item by a seed of its own, the same for every model; dataset and rewrite put the right one anywhere among options and candidates.',
    isFlaw: true,
    treatment: 'switch',
    switches: ['optionOrder'],
    options: ['dataset: optionOrder', 'rewrite: candidateOrder'],
    tests: [
      [
        EVALUATE,
        'Q1: shows the options in an order that does not give the label away, or label first as the released lists',
      ],
      [
        'stages/dataset/labelled-images.test.ts',
        'Q1: offers the nearest classes by name, in any order, or label first as the released lists',
      ],
      [
        'stages/rewrite/teacher.test.ts',
        'Q1: shuffles the candidates with what is said about them, or puts the label first as most of the released thoughts',
      ],
    ],
  },
  Q2: {
    quirk: 'Answers about the positive image are trained on that image, where the paper conditions on the anchor.',
    here: 'As in the code; `positiveConditioning: anchor` follows the paper.',
    treatment: 'option',
    options: ['tapo: positiveConditioning'],
    tests: [
      [RECIPE, 'Q2: trains answers about the positive image on it as the released code, or on the anchor as the paper'],
    ],
  },
  Q3: {
    quirk: 'An answer counts when it contains the label, also one that lists every option; so does the reward.',
    here: 'eval reports containment and a strict metric side by side, and the share of answers that are no option. The reward wants the label itself; curves show `severalLabelsShare` and `answerCharacters`.',
    treatment: 'switch',
    switches: ['rewardRule'],
    tests: [
      [
        SCORING,
        'Q3: counts an answer that lists the options as wrong strictly, or as right by the released rule, containment',
      ],
      ['src/methods/reward.test.ts', 'Q3: does not reward %j, where the released rule, containment, does'],
      ['src/methods/reward.test.ts', 'counts the labels that an answer lists'],
    ],
  },
  Q4: {
    quirk: 'The super-category of the relative similarity is guessed from the path of the image.',
    here: 'It is that of the data set.',
    isFlaw: true,
    treatment: 'switch',
    switches: ['standardFrom'],
    tests: [[SCORING, 'Q4: takes the super-category from the data set, or from the path as the released evaluation']],
  },
  Q5: {
    quirk: 'Open-world scoring searches the whole output, thought included, where there is no answer.',
    here: 'Without an answer there is no hit; a strict metric also wants a single answer.',
    treatment: 'switch',
    switches: ['openFallback'],
    tests: [
      [SCORING, 'Q5: does not score a thought that mentions the label, or does as the released evaluation'],
      [IMPORTED, 'Q5: scores the same outputs otherwise under the sound rules than under the released ones'],
    ],
  },
  Q6: {
    quirk: 'Labels of cars lose their last two words, so that labels of two words would match anything.',
    here: 'Car labels lose them too, but a label of at most two words is compared as a whole.',
    treatment: 'switch',
    switches: ['emptyCarLabel'],
    tests: [
      [SCORING, 'Q6: compares a car label of two words as a whole, or as the empty text as the released evaluation'],
    ],
  },
  Q7: {
    quirk: 'The first step trains with learning rate 0, although there is no warm-up.',
    here: 'It has the full rate.',
    isFlaw: true,
    treatment: 'switch',
    switches: ['firstStepLearningRate'],
    tests: [[RECIPE, 'Q7: trains in the first step, or not as the released code']],
  },
  Q8: {
    quirk: 'Shell variables are set that nothing reads, among them a response limit of 4096.',
    here: 'Unknown options and unused variables of a pipeline are errors; the limit is 2048 in the presets.',
    treatment: 'mended',
    tests: [
      [
        'src/config/language.test.ts',
        'Q8: are errors at their places, where the released scripts set variables that they never pass on',
      ],
      ['stages/tapo/settings.test.ts', 'Q18: takes the values of the released scripts'],
    ],
  },
  Q9: {
    quirk: 'A mathematics benchmark from the network is the validation set, and is always run at the end.',
    here: 'Training validates on nothing by default, `sft` on held-out chats where it is given some; evaluations are stages of their own, on data that the pipeline names.',
    isFlaw: true,
    treatment: 'mended',
    tests: [
      [
        SFT,
        'Q9: validates on the chats that it is given or not at all, where the released code ends with a benchmark from the hub',
      ],
      [
        RECIPE,
        'Q9: generates for its steps alone, where the released code always answers a benchmark after the last one',
      ],
    ],
  },
  Q10: {
    quirk: 'Models that the paper compares with were asked with other prompts than the released ones.',
    here: 'Prompts have names and versions, which predictions and tables carry; `prompts: answer-only` is the one that an author gave.',
    treatment: 'mended',
    tests: [
      ['src/methods/prompts.test.ts', 'Q10: writes every named prompt as its version fixes it'],
      ['stages/tables/stage.test.ts', 'Q10: puts own rows below those of the paper, with how they were made'],
    ],
  },
  Q11: {
    quirk: 'The paper averages three trials, the code runs one greedy evaluation.',
    here: 'One evaluation, its seed recorded; intervals come from the test items.',
    treatment: 'kept',
  },
  Q12: {
    quirk: 'SFT, reinforcement and evaluation use three prompts and three pixel budgets.',
    here: 'As in the code: the prompt is an option, the budgets are those of the presets, and for an evaluation those of the model folder (of Qwen: the same; `set: reference` fixes them). Training fits images into its budget before the model resizes them.',
    treatment: 'kept',
  },
  Q13: {
    quirk: 'A figure of the paper shows a divergence from a reference model that the scripts do not have.',
    here: 'Off; `referenceKl` turns it on.',
    treatment: 'option',
    options: ['tapo: referenceKl'],
    tests: [[RECIPE, 'Q13: takes the divergence from a reference policy, which is 0 at first']],
  },
  Q14: {
    quirk: 'The divergence from the negative image uses the inverse of the ratio in the paper.',
    here: 'That of the code, which is the unbiased estimate.',
    treatment: 'kept',
  },
  Q15: {
    quirk: 'Own entropy is lowered, where the formula of the paper raises it.',
    here: 'Lowered, as in the code.',
    treatment: 'kept',
  },
  Q16: {
    quirk:
      'No gradient passes through the negative image, so its entropy changes nothing; the paper suggests that one does.',
    here: 'As in the code; `negativeGradient: true` also trains the likelihoods under the negative image.',
    treatment: 'option',
    options: ['tapo: negativeGradient'],
    tests: [
      [RECIPE, 'Q16: trains through the negative image where asked, with the same loss'],
      ['src/engine/loss/tapo.test.ts', 'Q16: trains through the negative image as the reference would (%s, %s)'],
    ],
  },
  Q17: {
    quirk: 'The mean over tokens is taken per micro-batch of four answers, so that tokens of long answers weigh less.',
    here: 'One mean over an update. `micro` repeats the mean of means, over four answers or chats whatever is computed at once; `answersPerMean` and the `microBatchSize` of sft are other numbers.',
    treatment: 'switch',
    switches: ['lossNormalisation'],
    tests: [
      [RECIPE, 'Q17: takes one mean, or the mean of the means over four answers each as the released code'],
      [SFT, 'Q17: weighs tokens equally, or micro-batches as the released code'],
    ],
  },
  Q18: {
    quirk: 'Script and paper differ in batch sizes, and draws are unlimited.',
    here: 'The presets have the values of the scripts; draws are bounded by `maxDraws`.',
    treatment: 'mended',
    tests: [
      [RECIPE, 'Q18: skips a step that finds no informative group, after as many draws as it may take'],
      ['stages/tapo/settings.test.ts', 'Q18: takes the values of the released scripts'],
    ],
  },
  Q19: {
    quirk: 'A draw without any informative group is kept whole.',
    here: 'It is dropped. A draw has as many questions as in the scripts with their presets (`questionsPerDraw`).',
    isFlaw: true,
    treatment: 'switch',
    switches: ['whenNoneInformative'],
    tests: [
      [RECIPE, 'Q19: drops a draw without an informative group, or keeps the whole of it as the released code'],
      [
        'src/methods/group-filter.test.ts',
        'Q19: drops everything when no group is informative, or keeps everything as the released code',
      ],
    ],
  },
  Q20: {
    quirk: 'Informative groups beyond the number of a step are thrown away.',
    here: 'The same, but later draws take only as many questions as are likely missing, unless `questionsPerDraw` fixes their number as in the presets of the scripts.',
    treatment: 'kept',
  },
  Q21: {
    quirk: 'All prompts and all steps share their noise, so that a row that comes again is answered alike.',
    here: 'Every request has noise of its own, from seed, step, place, row and view.',
    isFlaw: true,
    treatment: 'switch',
    switches: ['rolloutSeeds'],
    tests: [[RECIPE, 'Q21: answers a question anew when it comes again, or alike as the released code']],
  },
  Q22: {
    quirk: 'Without positive images, groups and updates are still halved and doubled.',
    here: 'Groups are as large and updates as many as with them; `groupSize` is another size. `halved` repeats the code: half the answers a group, twice the groups and updates of a step.',
    isFlaw: true,
    treatment: 'switch',
    switches: ['groupsWithoutPositive'],
    tests: [
      [
        GROUPING,
        'Q22: keeps groups and updates of a step without a positive image, or halves and doubles them as the released code',
      ],
      [
        RECIPE,
        'Q22: makes groups of twice the rollouts without a positive image, or half of that in more updates as the released code',
      ],
      [STAGE, 'Q22: halves groups in the whole training without a positive image where the released code does'],
    ],
  },
  Q23: {
    quirk: 'Positive and negative images are scored with the layout of the anchor, silently wrong for other shapes.',
    here: 'Inputs are built for each image; `triplets` resizes to the anchor on request. `anchor` repeats the code where an image has as many tokens as its anchor; where it has not, an error names the row. The code compares sums over a micro-batch, so that it also lets pass what cancels out there.',
    isFlaw: true,
    treatment: 'switch',
    switches: ['viewLayout'],
    options: ['triplets: sizes'],
    tests: [
      [RECIPE, 'Q23: in the own layout of an image, or that of the anchor as the released code'],
      [
        STAGE,
        'Q23: reads each image in its own layout, or in that of the anchor as the released code, if it has as many tokens',
      ],
      [
        'stages/triplets/stage.test.ts',
        'Q23: resizes positives and negatives to their anchors on request, as the released code needs them',
      ],
    ],
  },
  Q24: {
    quirk: 'Sampling cuts at top-p 0.99 and evaluation penalises repetition, the loss knows of neither.',
    here: 'The presets of the scripts do the same; the default samples without a cut. `rolloutDifference` reports what bans do; the loss has the temperature of sampling.',
    treatment: 'kept',
  },
  Q25: {
    quirk: 'Thoughts of the published chats differ in form, and 83 never name the label.',
    here: 'The data stays as it is; `sft` warns of answers without the form and of thoughts that never name theirs.',
    treatment: 'mended',
    tests: [[SFT, 'Q25: warns of thoughts that never name their answer']],
  },
  Q26: {
    quirk: 'The vision tower is frozen in the first stage by an undocumented default, and trained in the second.',
    here: 'The same by default; the pipelines write `trainable` out.',
    treatment: 'kept',
  },
  Q27: {
    quirk: "DAPO's shaping of overlong answers is not used.",
    here: 'Not used; an answer that is cut off scores no format, and `cutShare` tells how many are.',
    treatment: 'kept',
  },
  Q28: {
    quirk: 'The first checkpoint is marked as the best for ever.',
    here: 'A training ends with its last weights. `sft` keeps the best instead where it has a validation set.',
    isFlaw: true,
    treatment: 'mended',
    tests: [
      [SFT, 'Q28: keeps the best or the last weights, where the released code marks its first save as best for ever'],
      [SFT, 'measures held-out chats and keeps the best weights where asked'],
    ],
  },
  Q29: {
    quirk: 'Rewards are computed twice, and logged terms are those of the last micro-batch.',
    here: 'Rewards once, terms over whole updates.',
    isFlaw: true,
    treatment: 'mended',
    tests: [
      [
        RECIPE,
        'Q29: rewards once and reports whole updates, where the released code rewards twice and reports the last four answers',
      ],
    ],
  },
  Q30: {
    quirk: 'Dead and misleading options, a console script without a module.',
    here: 'Not ported. An option about a view that takes no part is an error.',
    treatment: 'mended',
    tests: [[STAGE, 'Q30: rejects options about a view that takes no part']],
  },
  Q31: {
    quirk: '`image_aug` is the negative, `image_noisy` the positive image, `kl_prcp` the divergence between classes.',
    here: 'anchor, positive, negative, negativeKl; the old column names are read by `dataset` with the source easyr1.',
    treatment: 'mended',
    tests: [[IMPORT, 'Q31: takes the columns of the released data as anchor, positive and negative']],
  },
  Q32: {
    quirk: 'Rows without an image return a batch that was never generated.',
    here: 'A row needs its images; one without is an error that names it.',
    isFlaw: true,
    treatment: 'mended',
    tests: [
      [
        IMPORT,
        'Q32: refuses a row without an image at its line, where the released code passes its batch on without an answer',
      ],
      ['src/artifacts/rows.test.ts', 'refuses %s, naming row and line'],
    ],
  },
  Q33: {
    quirk: 'The type of a folder is that of the first file that the system happens to list.',
    here: 'Files are chosen by their ending, in sorted order; hidden files and others do not matter.',
    isFlaw: true,
    treatment: 'mended',
    tests: [
      [
        IMPORT,
        'Q33: finds Parquet files by their ending, where the released code takes the type of the first file that is listed',
      ],
      ['src/datasets/files-below.test.ts', 'takes files by their ending, whatever else lies there'],
    ],
  },
  Q34: {
    quirk: 'The batch size of a critic is doubled.',
    here: 'There is no critic.',
    treatment: 'not applicable',
  },
  Q35: {
    quirk: "Python's white space, lower case and lists are not JavaScript's.",
    here: 'Rewards, scores and prompts follow Python; all 258 and 274 recorded cases agree.',
    treatment: 'mended',
    tests: [
      ['src/methods/python-text.test.ts', 'Q35: removes what Python calls white space and JavaScript does not'],
      ['src/methods/reward.test.ts', 'Q35: covers all 258 reference cases'],
    ],
  },
} as const satisfies Record<string, Divergence>;

const HEADER = `<!-- Generated from src/methods/divergence.ts by scripts/generate-docs.mjs. -->

# Where fr1 differs from Fine-R1's released code

The released code has quirks, some of them flaws that change results. Each is listed here with what fr1 does. The set \`sound\` is
the default; \`set: reference\` under \`sft\`, \`tapo\` and \`eval\` repeats the code by the switches named below, and single switches can be
set on their own. A run's record (\`fr1 show --json\`) holds the switches of every stage, predictions hold the rules that they were
scored by, and tables show them.

A number in bold is that of a flaw: a result is unsound by it, or a run fails. fr1 does otherwise by default, and tests show what the
released code does beside what fr1 does; \`npx vitest run -t "Q22:"\` runs those of one number.

\`mended\` means that there is no switch back. No weight and no score hangs on a flaw that has none (a validation on another task,
values logged from one micro-batch, a file that was not found); tests repeat the rule of the code there, where it goes wrong.

`;

/** What of the released work is no quirk and is not repeated to the letter, each with what fr1 does. */
export const NOT_REPEATED: readonly (readonly [there: string, here: string])[] = [
  [
    'The chains of thought were made by a teacher of 32 billion weights; no script is shipped.',
    '`rewrite` does the steps that the paper describes. The measure by which concepts are selected is the released one of the method that the paper names, with `conceptSelection: { by: embedding }`; the concepts to choose among, the prompts and the checks are ours, and nothing is mended by hand.',
  ],
  [
    'Reinforcement keeps weights and both moments of AdamW in bfloat16, with Kahan summation.',
    'Weights and moments in training are float32. The narrow ones save memory of a GPU and round differently.',
  ],
  [
    'Weight decay acts on all weights in reinforcement, norms and biases too.',
    'It acts on matrices only, in both stages, as in the fine-tuning of the code.',
  ],
  [
    'Updates and micro-batches are put in an order that gives each GPU equally many tokens.',
    'The groups of a step are shuffled by the seed before they are cut into updates: there is one device. The order decides which answers share a mean with `lossNormalisation: micro`.',
  ],
  [
    'The last batch of a pass of fine-tuning is filled up with chats from its beginning (12 of 404).',
    'The last update takes what is left (20 of 404); there are 70 updates as with a transformers that rounds up.',
  ],
  [
    'Prompts are padded on the left to 4096 tokens, longer ones are dropped; chats are cut at 4096.',
    'Nothing is padded to a fixed length, dropped or cut: a chat above `maxTokens` is an error.',
  ],
  [
    'The id of the image token is made unlikely in sampling by a bias of -100.',
    'Ids of image and video tokens and of the padded vocabulary are never sampled.',
  ],
  [
    'Sharding over GPUs, offloading, compiled graphs, gradient checkpointing, tensor parallelism, master address.',
    'One process on one device; large models run layer by layer and keep the activations between layers only.',
  ],
  [
    'Checkpoints are shards of each GPU that a script merges by hand.',
    'The output is a model folder of Hugging Face; state for a resume is kept apart.',
  ],
];

const REST_HEADER = `## Beyond the quirks

What else the released work does and fr1 does not repeat to the letter:

`;

/** docs/divergence.md as text. */
export function divergenceDocs(table: Readonly<Record<string, Divergence>>): string {
  const rows = Object.entries(table).map(([id, entry]) => {
    const how = howText(entry);
    const tests = 'tests' in entry ? [...new Set(entry.tests.map(([file]) => `\`${file}\``))].join(', ') : '';
    const name = entry.isFlaw ? `**${id}**` : id;
    return `| ${name} | ${entry.quirk} | ${entry.here} | ${how} | ${tests} |`;
  });
  const quirks = ['| | in the released code | here | how | shown by |', '| --- | --- | --- | --- | --- |', ...rows];
  const rest = [
    '| in the released code | here |',
    '| --- | --- |',
    ...NOT_REPEATED.map((row) => `| ${row.join(' | ')} |`),
  ];
  return `${HEADER}${quirks.join('\n')}\n\n${REST_HEADER}${rest.join('\n')}\n`;
}

function howText(entry: Divergence): string {
  switch (entry.treatment) {
    case 'switch':
      return [`switch ${listed(entry.switches)}`, ...(entry.options ? [`option ${listed(entry.options)}`] : [])].join(
        ', ',
      );
    case 'option':
      return `option ${listed(entry.options)}`;
    default:
      return entry.treatment;
  }
}

function listed(names: readonly string[]): string {
  return names.map((name) => `\`${name}\``).join(', ');
}
