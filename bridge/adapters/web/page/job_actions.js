/** The buttons for a job that has ended: the same below the chosen job and in the viewer. */

import { announce, button, copy, make, save } from "./dom.js";
import { downloadName } from "./file_names.js";
import { date } from "./format.js";
import { say } from "./texts.js";

const SMALL = { kind: "small" };

/**
 * Returns the row of buttons for a job's view, and its output `info` if that is there. `actions` do
 * what the page has to: `again`, `useAsInput`, `remove`, `keep` and `favourite`, each of a view.
 */
export function actionRow(view, info, client, actions) {
  const row = make("div", { class: "row actions" });
  if (info) {
    row.append(
      button("download", say("job.download"), () => download(view, info), SMALL),
      button("input", say("job.useAsInput"), () => actions.useAsInput(view, info), SMALL),
      linkButton(view, info, client),
    );
  }
  row.append(button("again", say("job.again"), () => actions.again(view), SMALL));
  if (info) row.append(...toggles(view, actions));
  row.append(button("delete", say("job.delete"), () => actions.remove(view), SMALL));
  return row;
}

function linkButton(view, info, client) {
  const link = button("link", say("job.copyLink"), copyLink, SMALL);
  /** A signed link: whoever has it can see the output until the link expires. */
  async function copyLink() {
    await copy(await client.link(view.id, info.index));
    link.lastChild.textContent = say("job.copied");
  }
  return link;
}

function toggles(view, actions) {
  const keep = button("keep", "", () => press(keep, actions.keep), { kind: "small toggle" });
  const star = button("star", say("job.favourite"), () => press(star, actions.favourite), {
    kind: "small toggle",
  });
  const draw = () => {
    const { favourite, keptUntil } = view.mark;
    star.setAttribute("aria-pressed", String(Boolean(favourite)));
    keep.setAttribute("aria-pressed", String(Boolean(keptUntil)));
    keep.lastChild.textContent = say(keptUntil ? "job.kept" : "job.keep");
    keep.title = keptUntil ? say("job.keptTitle", { date: date(keptUntil) }) : say("job.keepTitle");
  };
  async function press(pressed, action) {
    pressed.disabled = true;
    try {
      announce(await action(view));
    } catch (error) {
      announce(error.message);
    }
    pressed.disabled = false;
    draw();
  }
  draw();
  return [star, keep];
}

async function download(view, info) {
  const { job } = view;
  const url = URL.createObjectURL(await job.output(info));
  save(url, downloadName({ info, workflow: job.workflow, caption: view.text, id: job.id }));
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
