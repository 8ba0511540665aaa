/**
 * Unit vectors of images by the vision tower of CLIP or SigLIP, in the space of their text tower.
 *
 * NOTE: resizing and cropping are done here. transformers.js resizes without antialiasing under Node, which moved cosines by 0.13
 * on a picture six times the model's size; it still scales and normalises.
 */
import type { RgbImage } from '../image/load-image.ts';
import { resizeBicubic, resizeBilinear } from '../image/resize.ts';
import { chosenModel, type ModelChoice, type Tensor, unitRows, unloadable } from './transformers-model.ts';

export interface PictureEmbedder extends AsyncDisposable {
  /** What is recorded beside results. */
  readonly name: string;
  /** [images][width], each of length 1. Images are resized and cropped as the model's preprocessor_config.json says. */
  embed(images: readonly RgbImage[]): Promise<Float32Array[]>;
}

/**
 * @param threads that onnxruntime may use. @default all
 * @throws CHECKPOINT_UNREADABLE when the model cannot be loaded or is neither CLIP nor SigLIP
 */
export async function openPictureEmbedder(choice: ModelChoice, threads?: number): Promise<PictureEmbedder> {
  const transformers = await import('@huggingface/transformers');
  const { AutoConfig, AutoProcessor, RawImage } = transformers;
  const { name, record, options } = await chosenModel(choice, threads);
  const hint =
    'it needs config.json, preprocessor_config.json, tokenizer.json, onnx/vision_model.onnx and onnx/text_model.onnx';
  try {
    const { model_type: type } = await AutoConfig.from_pretrained(name, options);
    const loaders = { siglip: transformers.SiglipVisionModel, clip: transformers.CLIPVisionModelWithProjection };
    const loader = loaders[type as keyof typeof loaders];
    if (loader === undefined) throw new Error(`model_type is "${type}", neither clip nor siglip`);
    const processor = (await AutoProcessor.from_pretrained(name, options)).image_processor;
    if (!processor) throw new Error('preprocessor_config.json describes no image processor');
    const settings = fitSettings(processor.config as FitConfig);
    const model = await loader.from_pretrained(name, options);
    return {
      name: record,
      async embed(images) {
        const fitted = images.map((image) => fittedImage(image, settings));
        const raw = fitted.map(({ data, width, height }) => new RawImage(data, width, height, 3));
        const { pixel_values } = (await processor(raw)) as Record<string, Tensor>;
        const outputs = (await model({ pixel_values })) as Record<string, Tensor>;
        return unitRows(outputs['image_embeds'] ?? outputs['pooler_output']!);
      },
      async [Symbol.asyncDispose]() {
        await model.dispose();
      },
    };
  } catch (cause) {
    throw unloadable('contrastive model', choice, hint, cause);
  }
}

/** What preprocessor_config.json says of sizes. Older files give one number for both edges. */
interface FitConfig {
  readonly do_resize?: boolean;
  readonly size?: number | { readonly shortest_edge?: number; readonly height?: number; readonly width?: number };
  /** Pillow's number of the filter. */
  readonly resample?: number;
  readonly do_center_crop?: boolean;
  readonly crop_size?: number | { readonly height: number; readonly width: number };
}

interface Size {
  readonly height: number;
  readonly width: number;
}

/** How an image is brought to the model's size. */
interface FitSettings {
  /** Size after resizing: of the shorter edge, the other in proportion, or of both; null: as it is. */
  readonly resize: { readonly shortestEdge: number } | Size | null;
  readonly resample: typeof resizeBicubic;
  readonly crop: Size | null;
}

const FILTERS: Readonly<Record<number, typeof resizeBicubic>> = { 2: resizeBilinear, 3: resizeBicubic };

function fitSettings(config: FitConfig): FitSettings {
  const { do_resize = true, size, resample = 3, do_center_crop = false, crop_size } = config;
  const filter = FILTERS[resample];
  if (filter === undefined) throw new Error(`resample is ${resample}, neither 2 (bilinear) nor 3 (bicubic)`);
  const crop = typeof crop_size === 'number' ? { height: crop_size, width: crop_size } : crop_size;
  return {
    resize: do_resize ? resizedSize(size) : null,
    resample: filter,
    crop: (do_center_crop && crop) || null,
  };
}

function resizedSize(size: FitConfig['size']): FitSettings['resize'] {
  if (typeof size === 'number') return { shortestEdge: size };
  if (size?.shortest_edge !== undefined) return { shortestEdge: size.shortest_edge };
  if (size?.height !== undefined && size.width !== undefined) return { height: size.height, width: size.width };
  throw new Error('size in preprocessor_config.json gives neither shortest_edge nor height and width');
}

function fittedImage(image: RgbImage, { resize, resample, crop }: FitSettings): RgbImage {
  let target: Size = image;
  if (resize && 'shortestEdge' in resize) {
    const short = Math.min(image.width, image.height);
    const scaled = (edge: number) => Math.trunc((edge * resize.shortestEdge) / short);
    target = { height: scaled(image.height), width: scaled(image.width) };
  } else if (resize) {
    target = resize;
  }
  const resized = resample(image, target.height, target.width);
  return crop ? centreCrop(resized, crop) : resized;
}

/** The middle of an image; what the image does not reach is black. */
function centreCrop(image: RgbImage, { height, width }: Size): RgbImage {
  const top = Math.floor((image.height - height) / 2);
  const left = Math.floor((image.width - width) / 2);
  const data = new Uint8Array(height * width * 3);
  const [from, to] = [Math.max(left, 0), Math.min(left + width, image.width)];
  for (let y = Math.max(top, 0); y < Math.min(top + height, image.height); y++) {
    const row = image.data.subarray((y * image.width + from) * 3, (y * image.width + to) * 3);
    data.set(row, ((y - top) * width + from - left) * 3);
  }
  return { width, height, data };
}
