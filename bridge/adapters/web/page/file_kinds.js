/** What a file is, by its first bytes: as the bridge looks at it. Pure. */

const SIGNATURES = [
  [0, "\x89PNG\r\n\x1a\n", "image"],
  [0, "\xff\xd8\xff", "image"],
  [8, "WEBP", "image"],
  [0, "GIF87a", "image"],
  [0, "GIF89a", "image"],
  [0, "II*\0", "image"],
  [0, "MM\0*", "image"],
  [4, "jP  \r\n\x87\n", "image"],
  [0, "\0\0\x01\0", "image"],
  [0, "\xff\x0a", "image"],
  [4, "JXL \r\n\x87\n", "image"],
  [0, "v/1\x01", "image"],
  [0, "BM", "image"],
  [0, "P5", "image"],
  [0, "P6", "image"],
  [0, "\x1aE\xdf\xa3", "video"],
  [8, "AVI ", "video"],
  [0, "fLaC", "audio"],
  [0, "OggS", "audio"],
  [0, "ID3", "audio"],
  [8, "WAVE", "audio"],
];
const BRANDS = /^(avif|avis|hei[cxms]|hev[cx]|mif[12]|msf1)$/;

/** How many bytes are looked at. */
export const HEAD = 32;

/** Returns `image`, `audio` or `video`, null for what is none of them or not known. */
export function kindOfBytes(head) {
  const text = String.fromCharCode(...head);
  if (text.slice(4, 8) === "ftyp") {
    if (BRANDS.test(text.slice(8, 12))) return "image";
    return text.startsWith("M4", 8) ? "audio" : "video";
  }
  const isRiff = text.startsWith("RIFF");
  const found = SIGNATURES.find(
    ([at, signature]) => text.startsWith(signature, at) && (at !== 8 || isRiff),
  );
  return found?.[2] ?? null;
}

/** Returns why an input of a kind does not take a file with these first bytes, as a text's key. */
export function mismatch(kind, head) {
  const found = kindOfBytes(head);
  // The bridge takes nothing else as a picture; in films and sounds it knows more than the page.
  if (kind === "image" || kind === "mask") return found === "image" ? null : "media.notPicture";
  if (found !== "image") return null;
  return { audio: "media.notAudio", video: "media.notVideo" }[kind] ?? null;
}
