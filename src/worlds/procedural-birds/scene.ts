/** Everything that varies between two images of one species: drawn from a random stream, independent of the drawing. */
import type { RandomStream } from '../../engine/random.ts';
import { type Traits, traitsOf } from './species.ts';

export type Rgb = readonly [number, number, number];

export interface Leaf {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  readonly angle: number;
  readonly colour: Rgb;
}

export type Backdrop = 'sky' | 'grass' | 'branch';

/** Lengths in pixels of the 112 px frame, angles in degrees, colours 0-255. */
export interface Scene {
  readonly traits: Traits;
  readonly facesLeft: boolean;
  readonly scale: number;
  readonly shiftX: number;
  readonly shiftY: number;
  readonly angle: number;
  readonly crownColour: Rgb;
  readonly breastColour: Rgb;
  readonly wingColour: Rgb;
  readonly markColour: Rgb;
  readonly tailColour: Rgb;
  readonly tailLift: number;
  readonly cheekColour: Rgb;
  readonly billColour: Rgb;
  readonly billLength: number;
  readonly legColour: Rgb;
  readonly hasEyeRing: boolean;
  readonly backdrop: Backdrop;
  readonly skyTop: Rgb;
  readonly skyBottom: Rgb;
  readonly groundColour: Rgb;
  readonly backgroundBlobs: readonly Leaf[];
  /** Leaves in front of the bird, in frame coordinates. */
  readonly occluders: readonly Leaf[];
  /** The naming part that is made hard to read, with the way it is done. */
  readonly hardPart: { readonly attribute: number; readonly by: 'leaf' | 'shade'; readonly leaf: Leaf } | null;
  /** Per-channel factor of the light. */
  readonly light: Rgb;
  /** Amplitude of the pixel noise. */
  readonly noise: number;
  readonly noiseSeed: number;
}

/** Crown and breast colours by value index. */
const PLUMAGE: readonly Rgb[] = [
  [206, 32, 38],
  [244, 206, 36],
  [38, 152, 58],
  [36, 84, 208],
  [246, 246, 242],
  [26, 26, 30],
];
const DARK_WING: Rgb = [58, 54, 62];
/** Wing ground colours by value index; barred and spotted wings share one. */
const WINGS: readonly Rgb[] = [[152, 154, 160], [232, 126, 30], [136, 56, 168], DARK_WING, DARK_WING];
const CHEEKS: readonly Rgb[] = [
  [150, 116, 84],
  [176, 150, 120],
  [120, 116, 110],
  [132, 126, 88],
];
const BILLS: readonly Rgb[] = [
  [232, 160, 40],
  [60, 56, 54],
  [170, 150, 130],
  [200, 90, 60],
];
const LEAVES: readonly Rgb[] = [
  [78, 120, 52],
  [118, 138, 62],
  [142, 108, 60],
  [70, 98, 70],
];
const SKIES: readonly Rgb[] = [
  [176, 206, 232],
  [214, 224, 226],
  [232, 214, 184],
  [160, 188, 160],
  [196, 186, 210],
  [142, 160, 178],
];
const GROUNDS: readonly Rgb[] = [
  [124, 150, 92],
  [150, 132, 100],
  [178, 170, 130],
  [104, 124, 110],
];

/** Where the parts lie in the bird's own coordinates, origin at the frame's centre; see draw.ts. */
export const PART_CENTRES: readonly { readonly x: number; readonly y: number }[] = [
  { x: 23, y: -27 },
  { x: 18, y: 12 },
  { x: -8, y: -1 },
  { x: -42, y: 12 },
];

const HARD_PART_RATE = 0.1;

export function clampByte(value: number): number {
  return Math.max(0, Math.min(255, Math.round(value)));
}

function jittered(stream: RandomStream, [r, g, b]: Rgb, amount: number): Rgb {
  const common = stream.between(-amount, amount);
  const one = (value: number) => clampByte(value + common + stream.between(-amount, amount) * 0.6);
  return [one(r), one(g), one(b)];
}

function leaf(stream: RandomStream, x: number, y: number, radius: number): Leaf {
  return { x, y, radius, angle: stream.between(0, 180), colour: jittered(stream, stream.choice(LEAVES), 16) };
}

/** Bird coordinates to frame coordinates under the scene's pose. */
export function toFrame(
  pose: Pick<Scene, 'facesLeft' | 'scale' | 'shiftX' | 'shiftY' | 'angle'>,
  point: { readonly x: number; readonly y: number },
): { x: number; y: number } {
  const radians = (pose.angle * Math.PI) / 180;
  const x = (point.x * Math.cos(radians) - point.y * Math.sin(radians)) * pose.scale;
  const y = (point.x * Math.sin(radians) + point.y * Math.cos(radians)) * pose.scale;
  return { x: 56 + pose.shiftX + (pose.facesLeft ? -x : x), y: 56 + pose.shiftY + y };
}

/** Draws a scene; equal streams give equal scenes. */
export function sampleScene(species: number, stream: RandomStream): Scene {
  const traits = traitsOf(species);
  const pose = {
    facesLeft: stream.uniform() < 0.5,
    scale: stream.between(0.75, 1.1),
    shiftX: stream.between(-5, 5),
    shiftY: stream.between(-5, 5),
    angle: stream.between(-15, 15),
  };
  const colours = {
    crownColour: jittered(stream, PLUMAGE[traits[0]!]!, 14),
    breastColour: jittered(stream, PLUMAGE[traits[1]!]!, 14),
    wingColour: jittered(stream, WINGS[traits[2]!]!, 14),
    markColour: jittered(stream, [240, 238, 228], 12),
    tailColour: jittered(stream, [112, 84, 62], 14),
    tailLift: stream.between(-10, 14),
    cheekColour: jittered(stream, stream.choice(CHEEKS), 14),
    billColour: jittered(stream, stream.choice(BILLS), 14),
    billLength: stream.between(7, 15),
    legColour: jittered(stream, stream.choice(BILLS), 14),
    hasEyeRing: stream.uniform() < 0.4,
  };
  const background = {
    backdrop: stream.choice(['sky', 'grass', 'branch'] as const),
    skyTop: jittered(stream, stream.choice(SKIES), 20),
    skyBottom: jittered(stream, stream.choice(SKIES), 20),
    groundColour: jittered(stream, stream.choice(GROUNDS), 18),
    backgroundBlobs: Array.from({ length: stream.integer(4) }, () =>
      leaf(stream, stream.between(0, 112), stream.between(0, 112), stream.between(8, 20)),
    ),
  };
  const occluders: Leaf[] = [];
  if (stream.uniform() < 0.35) {
    const around = stream.between(0, 2 * Math.PI);
    const away = stream.between(24, 46);
    occluders.push(leaf(stream, 56 + away * Math.cos(around), 56 + away * Math.sin(around), stream.between(6, 11)));
  }
  let hardPart: Scene['hardPart'] = null;
  if (stream.uniform() < HARD_PART_RATE) {
    const attribute = stream.integer(traits.length);
    const centre = toFrame(pose, PART_CENTRES[attribute]!);
    const offset = stream.between(-3, 3);
    hardPart = {
      attribute,
      by: stream.uniform() < 0.5 ? 'leaf' : 'shade',
      leaf: leaf(stream, centre.x + offset, centre.y + offset, stream.between(10, 13) * pose.scale),
    };
  }
  const brightness = stream.between(0.82, 1.12);
  return {
    traits,
    ...pose,
    ...colours,
    ...background,
    occluders,
    hardPart,
    light: [
      brightness * stream.between(0.95, 1.05),
      brightness * stream.between(0.95, 1.05),
      brightness * stream.between(0.95, 1.05),
    ],
    noise: stream.between(0, 9),
    noiseSeed: stream.uint32(),
  };
}
