/** Where inputs that pipelines name come from, for the hint about one that is missing. Names are those of the official downloads. */
import { totalmem } from 'node:os';

interface KnownInput {
  /** Looked for in the path as written. */
  readonly path: RegExp;
  readonly hint: string;
  /** Whether it is a model of $1 billion weights, to which what training takes is added. */
  readonly isModel?: true;
}

const FINE_R1 = 'the repository PKU-ICST-MIPL/FineR1_ICLR2026 on GitHub';

const KNOWN: readonly KnownInput[] = [
  {
    path: /Qwen2\.5-VL-(3|7)B-Instruct/,
    hint: '`fr1 fetch Qwen/Qwen2.5-VL-$1B-Instruct` downloads it, and pipelines name it by that id; without it pipelines/quickstart.yaml trains a small model that is included',
    isModel: true,
  },
  {
    path: /Fine-R1-Stage1-data\.json/,
    hint: `it is LLaMA-Factory/data/Fine-R1-Stage1-data.json in ${FINE_R1}`,
  },
  {
    path: /Fine-R1-Stage2-data/,
    hint: 'get it with `hf download StevenHH2000/Fine-R1-Stage2-data --repo-type dataset --local-dir FOLDER`, or make triplets of labelled images with `uses: triplets`',
  },
  {
    path: /Fine-R1-(3|7)B-Stage1/,
    hint: 'it is the output `model` of the stage sft in pipelines/cot_sft_$1b.yaml',
    isModel: true,
  },
  {
    path: /Fine-R1-(3|7)B/,
    hint: 'it is the output `model` of the stage tapo in pipelines/fine_r1_$1b.yaml; any Qwen2.5-VL folder will do',
  },
  {
    path: /fine-r1\/results/,
    hint: 'it is the folder of result files that eval_closed.sh and eval_open.sh of the released evaluation write',
  },
  {
    path: /((?:clip-vit|siglip|siglip2)-[\w-]*patch\d+(?:-\d+)?)$/,
    hint: 'get it with `hf download Xenova/$1 --include "*.json" "onnx/vision_model.onnx" "onnx/text_model.onnx" --local-dir FOLDER`; it needs the ONNX files of transformers.js',
  },
  {
    path: /(e5-(?:small|base|large)-v2)$/,
    hint: 'get it with `hf download Xenova/$1 --include "*.json" "onnx/model.onnx" --local-dir FOLDER`; it needs the ONNX file of transformers.js',
  },
  { path: /fine-r1\/eval/, hint: `they are the files of eval/data in ${FINE_R1}` },
  { path: /fgvc-aircraft-2013b/, hint: 'FGVC-Aircraft: https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft' },
  { path: /CUB_200_2011/, hint: 'CUB-200-2011: https://www.vision.caltech.edu/datasets/cub_200_2011' },
  { path: /stanford[_-]cars/, hint: 'Stanford Cars: cars_train, cars_test and devkit of Krause et al. 2013' },
  { path: /stanford[_-]dogs/, hint: 'Stanford Dogs: http://vision.stanford.edu/aditya86/ImageNetDogs' },
  { path: /flowers-102/, hint: 'Oxford Flowers 102: https://www.robots.ox.ac.uk/~vgg/data/flowers/102' },
  { path: /oxford-iiit-pet/, hint: 'Oxford-IIIT Pet: https://www.robots.ox.ac.uk/~vgg/data/pets' },
  {
    path: /data\/photos$/,
    hint: 'any folder will do that has a folder of photos for each class: --set vars.photos=FOLDER',
  },
];

/** Memory in GB that training takes at least, by billions of weights: of all weights in float32 with both moments, and of an adapter. */
const TRAINING_GB: Readonly<Record<string, { readonly all: number; readonly adapter: number }>> = {
  3: { all: 75, adapter: 10 },
  7: { all: 166, adapter: 20 },
};

function trainingTakes(size: string): string {
  const { all, adapter } = TRAINING_GB[size]!;
  const limit = process.constrainedMemory?.() ?? 0;
  const has = Math.floor((limit > 0 ? Math.min(limit, totalmem()) : totalmem()) / 1e9);
  return `training all of it takes about ${all} GB of memory and an adapter (adapter.kind=lora) ${adapter} GB, this machine has ${has} GB`;
}

/** Where to get what a path names; undefined for a path that is not known. */
export function sourceOfInput(written: string): string | undefined {
  for (const { path, hint, isModel } of KNOWN) {
    const found = path.exec(written);
    if (!found) continue;
    const [, size = ''] = found;
    return `${hint.replace('$1', size)}${isModel ? `; ${trainingTakes(size)}` : ''}`;
  }
  return undefined;
}
