/**
 * The field of a picture, or of a mask: drop, paste or choose it, take one from the gallery, and
 * paint a mask over it.
 */

import { button, icon, make, show } from "./dom.js";
import { mediaField } from "./file.js";
import { Held } from "./held.js";
import { paintMask } from "./mask.js";

/**
 * `tools.picture()` gives what a mask of its own is painted over; a workflow without a mask's
 * input takes it as the picture's transparency.
 */
export function pictureField(name, schema, tools) {
  const isMask = schema["x-kind"] === "mask";
  const paint = button("brush", isMask ? "Paint it" : "Paint a mask", () => painted(), {
    kind: "small",
  });
  const words = isMask
    ? "Paint it over the picture, or drop a mask here"
    : "Drop or paste a picture here, or choose one";
  const field = mediaField(name, schema, tools, {
    words,
    drawing: isMask ? "brush" : "picture",
    extra: isMask ? [] : [paint],
  });
  // A mask can be painted before there is one; a picture has to be there first.
  if (isMask) field.box.append(make("div", { class: "tools" }, paint));
  field.acceptsPictures = !isMask;
  field.offerPaint = () => show(paint, isMask || !tools.hasMask());

  field.draw = async (held) => {
    const url = await held.url();
    if (field.held !== held) return;
    const drawn = url ? make("img", { src: url, alt: held.filename }) : icon("picture");
    field.shown.replaceChildren(drawn);
  };

  async function painted() {
    const below = isMask ? tools.picture() : field.held;
    const url = await below?.url();
    if (!url) {
      const first = isMask ? "Choose the picture first: the mask is painted over it." : null;
      field.refuse(first ?? "Only the bridge has this picture: choose it again to paint over it.");
      return;
    }
    const blob = await paintMask(url, { transparent: !isMask });
    if (!blob) return;
    const filename = isMask ? "painted mask.png" : `masked ${below.filename}`;
    field.take(new Held({ client: tools.client, blob, filename }));
  }
  return field;
}
