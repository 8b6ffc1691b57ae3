/** A job as the gallery knows it: what it was asked, how it fares, where its pictures are. */

import { Estimate } from "./eta.js";
import { state } from "./words.js";

const now = () => Date.now() / 1000;

export class Entry {
  constructor(job, inputs) {
    this.job = job;
    this.given = inputs;
    this.at = job.acceptedAt ?? now();
    this.eta = new Estimate();
    this._urls = new Map();
    this._preview = { blob: null, url: null };
    this.note();
  }

  get id() {
    return this.job.id;
  }

  /** The values it ran with, as far as they are known. */
  get inputs() {
    return this.job.result?.inputs ?? this.given;
  }

  /** The media that it was given, as this page noted it: a result lists values alone. */
  get media() {
    return this.job.meta?.page?.media ?? {};
  }

  /** What stands for it in words: the longest text among its inputs. Large seeds are digits. */
  get text() {
    const isText = (value) => typeof value === "string" && !/^\d+$/.test(value);
    const texts = Object.values(this.inputs).filter(isText);
    return texts.reduce((longest, each) => (each.length > longest.length ? each : longest), "");
  }

  /** Takes a look at the job, after something happened to it. */
  note() {
    const { job } = this;
    this.told = state(job.state ?? "asked");
    if (job.state === "running") this.eta.note(job.progress?.percent ?? 0, now());
    else this.eta = new Estimate();
  }

  /** Seconds until it ends, null while that cannot be said. */
  get remaining() {
    return this.job.eta ?? this.eta.remaining(now());
  }

  pictures() {
    const outputs = this.job.result?.outputs ?? [];
    return outputs.filter((info) => info.content_type.startsWith("image/"));
  }

  /** Where a picture can be shown from: its bytes, if they came, else a link of the door's. */
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

  /** The newest preview; the one before it is let go of. */
  previewUrl() {
    const { preview } = this.job;
    if (preview && preview !== this._preview.blob) {
      const { url } = this._preview;
      // An image may still be reading it.
      if (url) setTimeout(() => URL.revokeObjectURL(url), 2000);
      this._preview = { blob: preview, url: URL.createObjectURL(preview) };
    }
    return this._preview.url;
  }
}
