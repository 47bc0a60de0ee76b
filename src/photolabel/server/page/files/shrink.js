// A worker: photos -> small squares of them. Decoding and shrinking stay out of the page's own thread.

self.onmessage = async ({ data: { id, file, side } }) => {
  let blob = null;
  try {
    const bitmap = await createImageBitmap(file, { resizeHeight: side, resizeQuality: "medium" });
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, side, side);
    const scale = Math.max(1, side / bitmap.width);
    const width = bitmap.width * scale;
    const height = bitmap.height * scale;
    context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
    bitmap.close();
    blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 });
  } catch {
    // Nothing that this browser can show: HEIC, TIFF, a broken file.
  }
  self.postMessage({ id, blob });
};
