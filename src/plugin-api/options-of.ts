/**
 * Option types from an option schema, so that a stage's schema is the only place that names its options.
 *
 * A property may be left out where it is neither `required` nor has a `default`; `run` sees defaults filled in and an
 * {@link Artifact} where the schema says `artifact`. What the mapping does not know (`$ref`, `if`) becomes `unknown`.
 */
import type { ArtifactType } from '../artifacts/types.ts';

/** The keywords of one option that fr1 reads; any other of JSON Schema 2020-12 may stand beside them. */
export interface OptionSchema {
  readonly description?: string;
  readonly type?: OptionType | readonly OptionType[];
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly minItems?: number;
  readonly items?: OptionSchema;
  readonly properties?: Readonly<Record<string, OptionSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | OptionSchema;
  readonly oneOf?: readonly OptionSchema[];
  readonly anyOf?: readonly OptionSchema[];
  /** Takes an output of these types, or a local folder that holds one; stands instead of `type`. */
  readonly artifact?: readonly ArtifactType[];
  /** Unit of a number, for readers. */
  readonly unit?: string;
  readonly [keyword: string]: unknown;
}

type OptionType = 'string' | 'number' | 'integer' | 'boolean' | 'array' | 'object' | 'null';

/** The schema of all options of a stage. */
export interface StageOptionsSchema {
  readonly type: 'object';
  readonly description?: string;
  readonly properties: Readonly<Record<string, OptionSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties: false;
  readonly [keyword: string]: unknown;
}

/** Options as a stage sees them: defaults count as given; `Reference` stands for an artifact. */
export type OptionsOf<Schema, Reference> = Flat<
  { readonly [Key in GivenKeys<Schema>]: ValueOf<PropertiesOf<Schema>[Key], Reference> } & {
    readonly [Key in Exclude<keyof PropertiesOf<Schema>, GivenKeys<Schema>>]?: ValueOf<
      PropertiesOf<Schema>[Key],
      Reference
    >;
  }
>;

/** Options as a user writes them: what has a default may be left out, an artifact is the path of a folder. */
export type WrittenOptionsOf<Schema> = Flat<
  { readonly [Key in RequiredKeys<Schema>]: WrittenValueOf<PropertiesOf<Schema>[Key]> } & {
    readonly [Key in Exclude<keyof PropertiesOf<Schema>, RequiredKeys<Schema>>]?: WrittenValueOf<
      PropertiesOf<Schema>[Key]
    >;
  }
>;

type ValueOf<Property, Reference> = Property extends { readonly artifact: readonly string[] }
  ? Reference
  : Property extends { readonly type: 'object'; readonly properties: object }
    ? OptionsOf<Property, Reference>
    : Property extends { readonly type: 'object'; readonly additionalProperties: infer Value extends OptionSchema }
      ? Readonly<Record<string, ValueOf<Value, Reference>>>
      : Property extends { readonly items: infer Item }
        ? readonly ValueOf<Item, Reference>[]
        : Property extends ChoicesOf<infer Choice>
          ? Choice extends unknown
            ? ValueOf<Choice, Reference>
            : never
          : PlainValueOf<Property>;

type WrittenValueOf<Property> = Property extends { readonly artifact: readonly string[] }
  ? string
  : Property extends { readonly type: 'object'; readonly properties: object }
    ? WrittenOptionsOf<Property>
    : Property extends { readonly type: 'object'; readonly additionalProperties: infer Value extends OptionSchema }
      ? Readonly<Record<string, WrittenValueOf<Value>>>
      : Property extends { readonly items: infer Item }
        ? readonly WrittenValueOf<Item>[]
        : Property extends ChoicesOf<infer Choice>
          ? Choice extends unknown
            ? WrittenValueOf<Choice>
            : never
          : PlainValueOf<Property>;

type ChoicesOf<Choice> = { readonly oneOf: readonly Choice[] } | { readonly anyOf: readonly Choice[] };

type PlainValueOf<Property> = Property extends { readonly const: infer Value }
  ? Value
  : Property extends { readonly enum: readonly (infer Value)[] }
    ? Value
    : Property extends { readonly type: readonly (infer Name)[] }
      ? NamedType<Name>
      : Property extends { readonly type: infer Name }
        ? NamedType<Name>
        : unknown;

type NamedType<Name> = Name extends 'string'
  ? string
  : Name extends 'number' | 'integer'
    ? number
    : Name extends 'boolean'
      ? boolean
      : Name extends 'null'
        ? null
        : Name extends 'array'
          ? readonly unknown[]
          : Readonly<Record<string, unknown>>;

type PropertiesOf<Schema> = Schema extends { readonly properties: infer Properties } ? Properties : never;

type RequiredKeys<Schema> = Schema extends { readonly required: readonly (infer Name)[] }
  ? Extract<keyof PropertiesOf<Schema>, Name>
  : never;

type DefaultKeys<Properties> = {
  [Key in keyof Properties]: Properties[Key] extends { readonly default: unknown } ? Key : never;
}[keyof Properties];

type GivenKeys<Schema> = RequiredKeys<Schema> | DefaultKeys<PropertiesOf<Schema>>;

/** The same properties as one object type, which reads better in messages. */
type Flat<Type> = { [Key in keyof Type]: Type[Key] };
