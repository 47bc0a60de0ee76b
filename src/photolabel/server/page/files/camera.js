// The camera: in the page where the browser lets a page have it, else by the device's own way to take a photo.

import { at, say, show } from "./parts.js";

const QUALITY = 0.92;
const allowed = () => Boolean(window.isSecureContext && navigator.mediaDevices?.getUserMedia);
const touches = () => matchMedia("(pointer: coarse)").matches;

/** Whether there is a way to take a photo; a desktop without one has only the choice of a file, which it has anyway. */
export const canShoot = () => allowed() || touches();

export function camera({ take, capture }) {
  const dialog = at("camera");
  const video = at("camera-video");
  const said = at("camera-said");
  let stream = null;
  let facing = "environment";
  let opened = 0; // counts up, so that a camera which comes too late is let go

  async function open() {
    if (!allowed()) {
      capture();
      return;
    }
    if (!dialog.open) dialog.showModal();
    const mine = ++opened;
    off();
    say(said, "Waiting for the camera. Your browser may ask whether it may be used.");
    at("camera-take").disabled = true;
    try {
      const wanted = { facingMode: facing, width: { ideal: 1920 }, height: { ideal: 1080 } };
      const came = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      if (mine !== opened || !dialog.open) {
        for (const track of came.getTracks()) track.stop();
        return;
      }
      stream = came;
      video.srcObject = stream;
      await video.play();
      say(said, "");
      at("camera-take").disabled = false;
      at("camera-take").focus();
      const all = await navigator.mediaDevices.enumerateDevices();
      show(at("camera-turn"), all.filter((each) => each.kind === "videoinput").length > 1);
    } catch (error) {
      if (mine === opened) say(said, why(error));
    }
  }

  function off() {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    video.srcObject = null;
  }

  async function shoot() {
    const mine = opened;
    at("camera-take").disabled = true; // one photo, however often it is pressed
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    if (mine !== opened || !dialog.open) return;
    at("camera-take").disabled = false;
    if (!blob) return;
    const name = `camera ${new Date().toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".")}.jpg`;
    dialog.close();
    take([{ file: new File([blob], name, { type: "image/jpeg" }), name }]);
  }

  at("camera-take").addEventListener("click", shoot);
  at("camera-close").addEventListener("click", () => dialog.close());
  at("camera-turn").addEventListener("click", () => {
    facing = facing === "environment" ? "user" : "environment";
    open();
  });
  dialog.addEventListener("close", () => {
    opened++;
    off();
  });
  return { open };
}

function why(error) {
  if (error.name === "NotAllowedError") return "The camera may not be used here. Allow it in your browser, or choose a photo instead.";
  if (error.name === "NotFoundError" || error.name === "OverconstrainedError") return "There is no camera. Choose a photo instead.";
  return "The camera does not answer; another program may have it. Choose a photo instead.";
}
