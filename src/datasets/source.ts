/**
 * What a reader of a dataset's files gives: every image with its label, before classes are split and images chosen. A
 * reader knows one layout of files; it knows nothing of shots, splits of classes and stages.
 */
import type { SourcePosition } from '../errors/fr1-error.ts';

export interface SourceData {
  /** e.g. `cub-200-2011`. */
  readonly name: string;
  /** What all classes have in common, e.g. `bird`. */
  readonly superCategory: string;
  /** In the order of the source. */
  readonly classes: readonly SourceClass[];
  readonly images: readonly SourceImage[];
  /** What the reader found odd and left out. */
  readonly warnings?: readonly string[];
}

export interface SourceClass {
  readonly label: string;
  /** Known groups that the class belongs to, coarse before fine, e.g. manufacturer and family; may be empty. */
  readonly groups: readonly string[];
}

export interface SourceImage {
  /** Unique within the source; what files and errors call the image. */
  readonly id: string;
  readonly label: string;
  /** null where the source makes no difference between training and test. */
  readonly split: 'train' | 'test' | null;
  readonly content: ImageContent;
  /** Where the image is listed. */
  readonly at?: SourcePosition;
  readonly question?: string;
  /** Four labels with the right one among them, in the order of the source. */
  readonly options?: readonly string[];
  readonly attributes?: Readonly<Record<string, string>>;
}

/** An image file, or bytes inside of another file. `name` is a relative path with `/` that is kept in outputs. */
export type ImageContent =
  | { readonly kind: 'file'; readonly path: string; readonly name: string }
  | { readonly kind: 'bytes'; readonly name: string; read(): Promise<Uint8Array> };

/** Which parts of a source are asked for; files of the others may be missing. */
export interface Needs {
  readonly train: boolean;
  readonly test: boolean;
}
