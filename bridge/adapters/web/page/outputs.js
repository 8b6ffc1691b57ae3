/** An output as elements: a picture, a player, a text, or the name of a file. */

import { icon, make } from "./dom.js";
import { bytes } from "./format.js";
import { say } from "./texts.js";

// How much larger than its pixels a picture may be shown.
const LARGEST_SCALE = 2;

/**
 * Fills `frame` with an output of a job's view. While its bytes do not come, and where they cannot,
 * the frame says so.
 */
export function drawOutput(frame, info, { view, client }) {
  const [kind] = info.content_type.split("/");
  const draw = { image: picture, audio: player, video: player, text }[kind] ?? file;
  draw(frame, info, { view, client }).catch((error) => frame.replaceChildren(hint(whyMissing(error))));
}

export function hint(text) {
  return make("p", { class: "hint" }, text);
}

function whyMissing({ code, message }) {
  return code === "unknown_job" ? say("job.wasDeleted") : message;
}

async function picture(frame, info, { view, client }) {
  const image = make("img", { alt: view.text || info.name });
  if (info.width) {
    Object.assign(image, { width: info.width, height: info.height });
    image.style.setProperty("--ratio", info.width / info.height);
    image.style.setProperty("--most", `${LARGEST_SCALE * info.width}px`);
  } else image.addEventListener("load", () => setRatio(image), { once: true });
  frame.prepend(image);
  image.src = await view.pictureUrl(client, info);
  await image.decode().catch(async () => {
    // The link has expired, or the output was deleted: fetching it tells which.
    image.src = URL.createObjectURL(await view.job.output(info));
  });
}

function setRatio(image) {
  image.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
}

async function player(frame, info, { view }) {
  const [kind] = info.content_type.split("/");
  const name = info.filename ?? info.name;
  const media = make(kind, { controls: true, loop: kind === "video", "aria-label": name });
  frame.prepend(media);
  media.src = URL.createObjectURL(await view.job.output(info));
}

async function text(frame, info, { view }) {
  const content = await (await view.job.output(info)).text();
  frame.prepend(make("pre", { tabindex: 0, role: "region", "aria-label": info.name }, content));
}

async function file(frame, info) {
  frame.prepend(icon("file"), hint(`${info.filename ?? info.name}, ${bytes(info.size)}`));
}
