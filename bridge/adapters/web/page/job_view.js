/** A job as the page shows it: its inputs, its state in words, and URLs of its pictures. */

import { EtaEstimate } from "./eta.js";
import { state } from "./format.js";

// A preview that was replaced may still be loading in an <img>.
const PREVIEW_GRACE_MS = 2000;

const now = () => Date.now() / 1000;

export class JobView {
  /** `inputs` are the values of the form, if the job was submitted here. */
  constructor(job, inputs) {
    this.job = job;
    this.submitted = inputs;
    this.at = job.acceptedAt ?? now();
    /** What the user marked it with: `{ favourite?, keptUntil? }`, as in marks.js. */
    this.mark = {};
    this._eta = new EtaEstimate();
    this._urls = new Map();
    this._preview = { blob: null, url: null };
    this.update();
  }

  get id() {
    return this.job.id;
  }

  /** The values it ran with, as far as they are known. */
  get inputs() {
    return this.job.result?.inputs ?? this.submitted;
  }

  /** Sources and filenames of its media, which this page put into `meta`: a result has no media. */
  get media() {
    return this.job.meta?.page?.media ?? {};
  }

  /** A caption: the longest text among its inputs. A text of digits alone is a large seed. */
  get text() {
    const isText = (value) => typeof value === "string" && !/^\d+$/.test(value);
    const texts = Object.values(this.inputs).filter(isText);
    return texts.reduce((longest, each) => (each.length > longest.length ? each : longest), "");
  }

  /** The job for gallery_filter.js. */
  described() {
    const { workflow, state: now } = this.job;
    const texts = [...Object.values(this.inputs), ...Object.values(this.media).map((each) => each.filename)]
      .filter((each) => ["string", "number"].includes(typeof each))
      .map(String);
    const { favourite, keptUntil } = this.mark;
    return { workflow, state: now, texts: [...texts, this.id], favourite, kept: keptUntil };
  }

  /** Updates the view after the job has changed. */
  update() {
    const { job } = this;
    this.stateText = state(job.state ?? "sending");
    if (job.state === "running") this._eta.add(job.progress?.percent ?? 0, now());
    else this._eta = new EtaEstimate();
  }

  /** Seconds until it ends, null while that is unknown. */
  get remaining() {
    return this.job.eta ?? this._eta.remaining(now());
  }

  pictures() {
    const outputs = this.job.result?.outputs ?? [];
    return outputs.filter((info) => info.content_type.startsWith("image/"));
  }

  /** Resolves with a picture's URL: of its bytes if the page has them, else a signed link. */
  async pictureUrl(client, info, width) {
    const known = this._urls.get(info.index);
    if (known) return known;
    if (this.job.has(info)) {
      const url = URL.createObjectURL(await this.job.output(info));
      this._urls.set(info.index, url);
      return url;
    }
    const link = await client.link(this.job.id, info.index);
    return width ? `${link}?width=${width}` : link;
  }

  /** The URL of the newest preview, null before the first; the URL before it is revoked. */
  previewUrl() {
    const { preview } = this.job;
    if (preview && preview !== this._preview.blob) {
      const { url } = this._preview;
      if (url) setTimeout(() => URL.revokeObjectURL(url), PREVIEW_GRACE_MS);
      this._preview = { blob: preview, url: URL.createObjectURL(preview) };
    }
    return this._preview.url;
  }
}
