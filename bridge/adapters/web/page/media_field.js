/** Fields of media: choose a file, drop one, or take a job's output. */

import { announce, button, icon, make, show } from "./dom.js";
import { fieldFrame } from "./field_frame.js";
import { HEAD, mismatch } from "./file_kinds.js";
import { bytes } from "./format.js";
import { MediaInput } from "./media_input.js";
import { say, sayOr } from "./texts.js";

/**
 * What the fields of all kinds of media share. `prompt` and the icon `drawing` are shown while the
 * field is empty, the elements `extra` beside the name of what it contains.
 *
 * Besides the functions of every field it has `media` (the MediaInput, null while empty),
 * `setFile(file)`, which refuses what cannot be of its kind, and `preview(media)`, which a kind sets to fill the element `shown`.
 */
export function mediaField(name, schema, { client, changed }, { prompt, drawing, extra = [] }) {
  const choose = make("input", {
    type: "file",
    class: "unseen",
    accept: schema.contentMediaType === "*/*" ? undefined : schema.contentMediaType,
  });
  const invite = make("span", { class: "invite" }, icon(drawing), make("span", {}, prompt));
  const shown = make("div", { class: "shown", hidden: true });
  const bar = make("div", { class: "bar sending", hidden: true }, make("span"));
  const filename = make("span", { class: "filename" });
  const remove = button("close", say("media.remove"), () => field.set(null), { quiet: true });
  const tools = make("div", { class: "tools", hidden: true }, filename, ...extra, remove);
  // A label: a click anywhere in it opens the file dialog, while the input itself has the focus.
  const area = make("label", { class: "drop" }, choose, invite, shown, bar);
  const box = make("div", { class: "media" }, area, tools);
  const frame = fieldFrame(name, schema, choose, box);
  const field = {
    ...frame,
    isMedia: true,
    media: null,
    box,
    shown,
    get: () => (field.media ? field.media.send() : undefined),
    set(media = null) {
      if (field.media && field.media !== media) field.media.release();
      field.media = media;
      choose.value = "";
      frame.refuse(null);
      for (const [element, visible] of [[tools, media], [shown, media], [invite, !media]]) {
        show(element, Boolean(visible));
      }
      show(bar, false);
      shown.replaceChildren();
      if (media) {
        const size = media.blob ? ` (${bytes(media.blob.size)})` : "";
        filename.textContent = `${media.filename}${size}`;
        field.preview?.(media);
        if (!media.source) upload(media);
      }
      changed();
    },
    async setFile(file) {
      const filename = file.name || say("media.pasted", { name });
      const head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
      const why = mismatch(schema["x-kind"], head);
      if (why) {
        choose.value = "";
        frame.refuse(say(why, { name: filename }));
        return;
      }
      field.set(new MediaInput({ client, blob: file, filename }));
    },
  };

  async function upload(media) {
    show(bar, true);
    try {
      await media.send((share) => bar.firstChild.style.setProperty("width", `${100 * share}%`));
    } catch (error) {
      if (field.media === media) frame.refuse(error.message);
    }
    if (field.media === media) show(bar, false);
  }

  choose.addEventListener("change", () => choose.files[0] && field.setFile(choose.files[0]));
  takeDroppedFiles(box, field);
  return field;
}

function takeDroppedFiles(box, field) {
  const highlight = (on) => (event) => {
    event.preventDefault();
    box.classList.toggle("over", on);
  };
  box.addEventListener("dragover", highlight(true));
  box.addEventListener("dragleave", highlight(false));
  box.addEventListener("drop", (event) => {
    highlight(false)(event);
    const [file, ...others] = event.dataTransfer.files;
    if (file) field.setFile(file);
    if (others.length) announce(say("form.oneAtATime", { name: file.name }));
  });
}

/** The field of an audio, a video or any other file. */
export function fileField(name, schema, tools) {
  const kind = schema["x-kind"];
  const prompt = sayOr(`media.${kind}`, say("media.file"));
  const field = mediaField(name, schema, tools, { prompt, drawing: "file" });
  field.preview = () => field.shown.append(icon("file"));
  return field;
}
