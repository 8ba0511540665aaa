/**
 * A scene as SVG, 112 x 112 px. The bird is drawn facing right around the origin: head at the upper right, tail at the
 * left. Light and noise are not part of the drawing; they are applied to the pixels (render.ts).
 */
import { clampByte, type Leaf, type Rgb, type Scene } from './scene.ts';

export const IMAGE_SIDE = 112;

const OUTLINE = '#2b241e';

function hex([r, g, b]: Rgb): string {
  return `#${((1 << 24) | (clampByte(r) << 16) | (clampByte(g) << 8) | clampByte(b)).toString(16).slice(1)}`;
}

function mixed(a: Rgb, b: Rgb, share: number): Rgb {
  return [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share];
}

function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function leafShape(leaf: Leaf): string {
  const r = leaf.radius;
  return (
    `<ellipse rx="${n(r)}" ry="${n(r * 0.55)}" fill="${hex(leaf.colour)}" ` +
    `transform="translate(${n(leaf.x)} ${n(leaf.y)})rotate(${n(leaf.angle)})"/>`
  );
}

function backdrop(scene: Scene): string {
  const ground = hex(scene.groundColour);
  const side = IMAGE_SIDE;
  let drawn =
    `<defs><linearGradient id="s" x2="0" y2="1"><stop stop-color="${hex(scene.skyTop)}"/>` +
    `<stop offset="1" stop-color="${hex(scene.skyBottom)}"/></linearGradient></defs>` +
    `<path d="M0 0h${side}v${side}h-${side}z" fill="url(#s)"/>`;
  for (const blob of scene.backgroundBlobs) drawn += leafShape(blob);
  if (scene.backdrop === 'grass') {
    drawn += `<path d="M0 90L9 82 16 92 27 80 36 91 48 83 57 92 69 81 80 92 91 82 101 91 112 84V112H0z" fill="${ground}"/>`;
  } else if (scene.backdrop === 'branch') {
    drawn += `<path d="M-4 88L116 92 116 99-4 94z" fill="${ground}"/>`;
  }
  return drawn;
}

/** The tail hangs off the rear of the body at (-26, 8); each shape is one path, about 30 px long unless short or long. */
function tail(scene: Scene, isShaded: boolean): string {
  const colour = isShaded ? mixed(scene.tailColour, [120, 115, 105], 0.6) : scene.tailColour;
  const fill = hex(colour);
  const place = `transform="translate(-24 6)rotate(${n(-scene.tailLift)})"`;
  const one = (d: string, extra = '') => `<g ${place}><path d="${d}" fill="${fill}"/>${extra}</g>`;
  switch (scene.traits[3]) {
    case 0:
      return one('M4-6L-30-20-14 2-30 24 4 8z');
    case 1:
      return one('M4-5L-18-24Q-36 2-18 28L4 8z');
    case 2:
      return one('M4-5L-42-4-42 5 4 6z');
    case 3:
      return one('M4-7L-10-5-10 8 4 9z');
    default: {
      const light = hex(isShaded ? mixed(scene.markColour, [120, 115, 105], 0.5) : scene.markColour);
      const bands = `<path d="M-7-9V11M-16-10V12M-25-11V13" stroke="${light}" stroke-width="5"/>`;
      return one('M4-7L-30-12-30 14 4 9z', bands);
    }
  }
}

function wing(scene: Scene, isShaded: boolean): string {
  const shade: Rgb = [110, 106, 108];
  const ground = isShaded ? mixed(scene.wingColour, shade, 0.5) : scene.wingColour;
  const mark = hex(isShaded ? mixed(scene.markColour, shade, 0.5) : scene.markColour);
  let drawn = `<path d="M12-10Q4-20-14-14-30-8-34 8-16 20 2 13 12 8 12-10z" fill="${hex(ground)}"/>`;
  if (scene.traits[2] === 3) {
    drawn += `<path d="M3-13L-1 11M-9-14L-14 12M-21-9L-25 8" stroke="${mark}" stroke-width="5"/>`;
  } else if (scene.traits[2] === 4) {
    const dot = (x: number, y: number) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0-8 0z`;
    drawn += `<path d="${dot(2, -7)}${dot(-11, -7)}${dot(-4, 5)}${dot(-22, 3)}" fill="${mark}" stroke="none"/>`;
  }
  return drawn;
}

export function drawSvg(scene: Scene): string {
  const shaded = (attribute: number) => scene.hardPart?.by === 'shade' && scene.hardPart.attribute === attribute;
  const crown = hex(shaded(0) ? mixed(scene.crownColour, [118, 112, 106], 0.5) : scene.crownColour);
  const breast = hex(shaded(1) ? mixed(scene.breastColour, [118, 112, 106], 0.5) : scene.breastColour);
  const radians = (scene.angle * Math.PI) / 180;
  const mirror = scene.facesLeft ? -1 : 1;
  const matrix = [
    Math.cos(radians) * scene.scale * mirror,
    Math.sin(radians) * scene.scale,
    -Math.sin(radians) * scene.scale * mirror,
    Math.cos(radians) * scene.scale,
    56 + scene.shiftX,
    56 + scene.shiftY,
  ].map((value) => value.toFixed(3));
  const bill = n(38 + scene.billLength);
  const ring = scene.hasEyeRing ? '<circle cx="29" cy="-19" r="4.6" fill="#f4f0e4"/>' : '';
  let front = '';
  for (const leaf of scene.occluders) front += leafShape(leaf);
  if (scene.hardPart?.by === 'leaf') front += leafShape(scene.hardPart.leaf);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${IMAGE_SIDE}" height="${IMAGE_SIDE}">${backdrop(scene)}` +
    `<g transform="matrix(${matrix.join(' ')})" stroke="${OUTLINE}" stroke-width="1.2">${tail(scene, shaded(3))}` +
    `<path d="M-4 24V38M6 25V38" stroke="${hex(scene.legColour)}" stroke-width="2.4"/>` +
    `<path d="M33-21L${bill}-15 33-10z" fill="${hex(scene.billColour)}"/>` +
    `<ellipse cy="6" rx="31" ry="22" fill="${breast}"/>` +
    `<circle cx="23" cy="-19" r="16" fill="${hex(scene.cheekColour)}"/>` +
    `<path d="M5-17Q2-38 20-41 41-40 39-22 22-14 5-17z" fill="${crown}"/>${ring}` +
    `<circle cx="29" cy="-19" r="2.6" fill="#111" stroke="none"/>${wing(scene, shaded(2))}</g>${front}</svg>`
  );
}
