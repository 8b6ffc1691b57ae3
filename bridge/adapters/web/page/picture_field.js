/**
 * The field of a picture or of a mask: drop, paste or choose a file, take a job's output, or paint
 * a mask.
 */

import { button, icon, make, show } from "./dom.js";
import { mediaField } from "./media_field.js";
import { MediaInput } from "./media_input.js";
import { paintMask } from "./mask_painter.js";
import { say } from "./texts.js";

/**
 * A mask is painted over `tools.picture()`. A workflow without a mask input gets a mask as the
 * transparency of its picture, so there the picture's own field offers to paint one.
 */
export function pictureField(name, schema, tools) {
  const isMask = schema["x-kind"] === "mask";
  const offer = say(isMask ? "painter.paintIt" : "painter.paintMask");
  const paint = button("brush", offer, () => openPainter(), { kind: "small" });
  const prompt = say(isMask ? "media.mask" : "media.image");
  const field = mediaField(name, schema, tools, {
    prompt,
    drawing: isMask ? "brush" : "picture",
    extra: isMask ? [] : [paint],
  });
  // A mask field offers to paint while it is empty; a picture field needs a picture first.
  if (isMask) field.box.append(make("div", { class: "tools" }, paint));
  field.acceptsPictures = !isMask;
  field.offerPaint = () => show(paint, isMask || !tools.hasMask());

  field.preview = async (media) => {
    const url = await media.url();
    if (field.media !== media) return;
    const drawn = url ? make("img", { src: url, alt: media.filename }) : icon("picture");
    field.shown.replaceChildren(drawn);
    // ComfyUI may be able to read what the browser cannot, so the file is sent nevertheless.
    drawn.addEventListener("error", () => {
      drawn.replaceWith(make("p", { class: "about" }, say("media.cannotShow")));
    });
  };

  async function openPainter() {
    const picture = isMask ? tools.picture() : field.media;
    try {
      const url = await picture?.url();
      if (!url) {
        field.refuse(say(isMask ? "media.noPicture" : "media.notHere"));
        return;
      }
      const blob = await paintMask(url, { transparent: !isMask });
      if (!blob) return;
      const name = picture.filename;
      const filename = isMask ? say("painter.painted") : say("painter.masked", { name });
      field.set(new MediaInput({ client: tools.client, blob, filename }));
    } catch (error) {
      field.refuse(error.message);
    }
  }
  return field;
}
