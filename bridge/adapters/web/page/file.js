/** The field of an audio, video or any other file: choose it, drop it, or what a job gave. */

import { button, icon, make, show } from "./dom.js";
import { frame } from "./fields.js";
import { Held } from "./held.js";
import { bytes } from "./words.js";

/**
 * What all media fields share. `words` invite; `shown(held)` draws what is held.
 * Besides a field's own functions it has `take(held)`, and `held` for what it has now.
 */
export function mediaField(name, schema, { client, changed }, { words, drawing, extra = [] }) {
  const choose = make("input", {
    type: "file",
    class: "unseen",
    accept: schema.contentMediaType === "*/*" ? undefined : schema.contentMediaType,
  });
  const invite = make("span", { class: "invite" }, icon(drawing), make("span", {}, words));
  const shown = make("div", { class: "shown", hidden: true });
  const bar = make("div", { class: "bar sending", hidden: true }, make("span"));
  const named = make("span", { class: "filename" });
  const remove = button("close", "Remove", () => field.take(null), { quiet: true });
  const tools = make("div", { class: "tools", hidden: true }, named, ...extra, remove);
  // A label: a press anywhere in it opens the choice of a file; the input itself has the focus.
  const area = make("label", { class: "drop" }, choose, invite, shown, bar);
  const box = make("div", { class: "media" }, area, tools);
  const made = frame(name, schema, choose, box);
  const field = {
    ...made,
    media: true,
    held: null,
    box,
    shown,
    take(held) {
      if (field.held && field.held !== held) field.held.release();
      field.held = held;
      choose.value = "";
      made.refuse(null);
      for (const [element, there] of [[tools, held], [shown, held], [invite, !held]]) {
        show(element, Boolean(there));
      }
      show(bar, false);
      shown.replaceChildren();
      if (held) {
        named.textContent = held.blob
          ? `${held.filename} (${bytes(held.blob.size)})`
          : held.filename;
        field.draw?.(held);
        if (!held.source) field.upload(held);
      }
      changed();
    },
    async upload(held) {
      show(bar, true);
      try {
        await held.send((share) => bar.firstChild.style.setProperty("width", `${100 * share}%`));
      } catch (error) {
        if (field.held === held) made.refuse(error.message);
      }
      if (field.held === held) show(bar, false);
    },
    takeFile(file) {
      field.take(new Held({ client, blob: file, filename: file.name || `pasted ${name}` }));
    },
    get: () => (field.held ? field.held.send() : undefined),
    set: (held) => field.take(held ?? null),
  };
  choose.addEventListener("change", () => choose.files[0] && field.takeFile(choose.files[0]));
  dropped(box, field);
  return field;
}

function dropped(box, field) {
  const over = (on) => (event) => {
    event.preventDefault();
    box.classList.toggle("over", on);
  };
  box.addEventListener("dragover", over(true));
  box.addEventListener("dragleave", over(false));
  box.addEventListener("drop", (event) => {
    over(false)(event);
    const [file] = event.dataTransfer.files;
    if (file) field.takeFile(file);
  });
}

export function fileField(name, schema, tools) {
  const kind = schema["x-kind"];
  const words = `Drop ${kind === "audio" ? "an audio file" : `a ${kind}`} here, or choose one`;
  const field = mediaField(name, schema, tools, { words, drawing: "file" });
  field.draw = () => field.shown.append(icon("file"));
  return field;
}
