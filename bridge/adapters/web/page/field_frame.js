/** What every field of the form consists of besides its control: label, description, problem. */

import { make } from "./dom.js";
import { title } from "./format.js";
import { say } from "./texts.js";

let count = 0;

/** Returns an id that no other element of the page has. */
export function uniqueId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}

/**
 * Makes the frame of an input's field: `{ name, element, label, refuse, focus }`.
 * `control` is the element that the label names and that takes the focus when the bridge refuses
 * the value; `content` is shown in its place if there is more to show than the control.
 * `refuse(message)` marks the field, `refuse(null)` or an input event clears the mark;
 * `require()` marks it as one that has to be filled in.
 */
export function fieldFrame(name, schema, control, ...content) {
  const id = uniqueId("field");
  control.id ||= id;
  const about = make("p", { class: "about", id: `${id}-about` }, schema.description ?? "");
  const problem = make("p", { class: "problem", id: `${id}-problem`, role: "alert", hidden: true });
  const described = [schema.description ? about.id : "", problem.id].join(" ").trim();
  control.setAttribute("aria-describedby", described);
  const mark = make("span", { class: "required", hidden: true }, say("form.required"));
  const label = make("label", { for: control.id, id: `${id}-label` }, labelOf(name, schema), " ", mark);
  const element = make(
    "div",
    { class: "field", "data-input": name, "data-kind": schema["x-kind"] },
    label,
    schema.description ? about : null,
    make("div", { class: "control" }, ...(content.length ? content : [control])),
    problem,
  );
  const refuse = (message) => {
    problem.textContent = message ?? "";
    problem.hidden = !message;
    element.classList.toggle("refused", Boolean(message));
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  const require = () => {
    mark.hidden = false;
    // A file's control has no such state, and its label says it as well.
    if (control.matches("textarea, select, input:not([type=file], [type=radio])")) {
      control.setAttribute("aria-required", "true");
    }
  };
  element.addEventListener("input", () => refuse(null));
  return { name, element, label, refuse, require, focus: () => control.focus() };
}

/** An input addressed by node and name ("3.steps") is labelled with the node's title and that name. */
export function labelOf(name, schema) {
  const place = schema["x-place"];
  if (place === undefined) return schema.title ?? title(name);
  return place || name;
}
