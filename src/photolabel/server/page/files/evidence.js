// A map of 8-bit grey -> colours over a photo, as the figures of photolabel explain have them.

import { blobOf } from "./parts.js";

const LOW = [0, 32, 76]; // the ends of cividis: it reads in grey, and for the colour-blind
const HIGH = [255, 233, 69];
const OPAQUE = 0.78; // of the map at most: the photo stays to be seen

/** Return the pixels of a PNG, as base64. */
export const pixelsOf = (png) => createImageBitmap(blobOf(png, "image/png"));

/** Draw a map into a canvas of its own size. */
export function drawHeat(canvas, pixels) {
  const context = drawPixels(canvas, pixels);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = image;
  for (let place = 0; place < data.length; place += 4) {
    const heat = data[place] / 255;
    for (let channel = 0; channel < 3; channel++) data[place + channel] = LOW[channel] + (HIGH[channel] - LOW[channel]) * heat;
    data[place + 3] = 255 * OPAQUE * Math.sqrt(heat);
  }
  context.putImageData(image, 0, 0);
}

/** Draw pixels into a canvas as they are; return its context. */
export function drawPixels(canvas, pixels) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(pixels, 0, 0);
  pixels.close();
  return context;
}

/** Lay an element over left, top, right, bottom of a photo of this size, whatever the size at which that is shown. */
export function lay(element, [left, top, right, bottom], [width, height]) {
  const share = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(element.style, {
    left: share(left, width),
    top: share(top, height),
    width: share(right - left, width),
    height: share(bottom - top, height),
  });
}
