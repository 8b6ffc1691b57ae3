/** Names for files that are downloaded. Pure. */

// The extension of each type, the usual one first; of other types what follows the slash.
const EXTENSIONS = {
  "image/jpeg": ["jpg", "jpeg"],
  "image/svg+xml": ["svg"],
  "image/tiff": ["tif", "tiff"],
  "image/x-exr": ["exr"],
  "image/vnd.microsoft.icon": ["ico"],
  "audio/mpeg": ["mp3"],
  "audio/mp4": ["m4a"],
  "audio/wav": ["wav"],
  "audio/x-wav": ["wav"],
  "video/quicktime": ["mov"],
  "video/x-msvideo": ["avi"],
  "video/x-matroska": ["mkv"],
  "text/plain": ["txt", "md", "csv", "log", "srt"],
  "text/markdown": ["md"],
  "model/gltf-binary": ["glb"],
  "model/gltf+json": ["gltf"],
  "application/octet-stream": ["bin"],
};
// Of what may be any file, a name's own extension says more.
const VAGUE = new Set(["text/plain", "application/octet-stream"]);
const LONGEST = 60;

/** Returns the extensions that files of a Content Type have, the usual one first. */
export function extensions(contentType) {
  const type = contentType.split(";")[0].trim().toLowerCase();
  const other = type.split("/")[1]?.replace(/^x-|^vnd\./, "").replace(/[^a-z0-9].*$/, "");
  return EXTENSIONS[type] ?? [other || "bin"];
}

/**
 * Returns the name for an output: the one that ComfyUI gave its file, else one made of the workflow,
 * the job's caption and its id. It ends as its type asks, and holds nothing that a system forbids.
 */
export function downloadName({ info, workflow, caption, id }) {
  const known = extensions(info.content_type);
  const given = safe(info.filename ?? "");
  if (given) {
    const own = /\.([A-Za-z0-9]{1,8})$/.exec(given)?.[1].toLowerCase();
    const isVague = VAGUE.has(info.content_type.split(";")[0].trim());
    if (own && (isVague || known.includes(own))) return given;
    return `${own ? given.slice(0, -own.length - 1) : given}.${known[0]}`;
  }
  const parts = [workflow, slug(caption), id.slice(0, 8), info.index ? String(info.index + 1) : ""];
  return `${parts.map(safe).filter(Boolean).join("-")}.${known[0]}`;
}

/** A text as a part of a file's name: its words, with hyphens. */
export function slug(text) {
  const words = text
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter(Boolean);
  let made = "";
  for (const word of words) {
    if (made.length + word.length >= LONGEST) break;
    made += made ? `-${word}` : word;
  }
  return made;
}

/** A name without folders, and without what a file system or a shell reads as more than a name. */
function safe(name) {
  const last = name.split(/[/\\]/).at(-1);
  return last.replace(/[\p{C}<>:"|?*]+/gu, "_").replace(/^[.\s]+|[.\s]+$/g, "");
}
