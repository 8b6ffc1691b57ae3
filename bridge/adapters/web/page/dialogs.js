/** Small dialogs: to confirm what cannot be undone, and to enter a name. */

import { button, make } from "./dom.js";
import { say } from "./texts.js";

/** Asks whether to go on; resolves with whether the user wants to. */
export async function confirm(question, { more = "", yes, no = say("dialog.cancel") }) {
  const about = more ? make("p", { class: "hint" }, more) : null;
  return (await opened(question, about, { icon: "delete", yes, no, kind: "danger" })) === "yes";
}

/** Asks for a name; resolves with it, null if the user cancels. */
export async function askName(question) {
  const entry = make("input", { type: "text", maxlength: 60, "aria-label": question, required: true });
  const options = { icon: "check", yes: say("dialog.save"), no: say("dialog.cancel"), kind: "primary" };
  const how = await opened(question, entry, options);
  return how === "yes" && entry.value.trim() ? entry.value.trim() : null;
}

function opened(question, content, { icon, yes, no, kind }) {
  const heading = make("h2", { id: "dialog-title" }, question);
  const go = button(icon, yes, null, { kind });
  go.setAttribute("type", "submit");
  const submit = (event) => {
    event.preventDefault(); // the page's policy lets no form send anything
    dialog.close("yes");
  };
  const form = make(
    "form",
    { onsubmit: submit },
    heading,
    content,
    make("div", { class: "row" }, go, button("close", no, () => dialog.close(""))),
  );
  const dialog = make("dialog", { class: "ask", "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
}
