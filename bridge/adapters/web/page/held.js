/**
 * Media that a field holds: a file that is uploaded while its owner still writes the prompt, or a
 * source that the bridge has already (an output, an earlier upload).
 */

export class Held {
  /** `source` is a media source of the contract; `blob` the bytes, where they are at hand. */
  constructor({ client, filename, blob = null, source = null, load = null }) {
    this.filename = filename;
    this.blob = blob;
    this.source = source;
    this._client = client;
    this._load = load;
    this._sending = null;
    this._url = null;
  }

  /** Begins to upload, if that is needed; `progress(share)` is told how far it is. */
  send(progress = () => {}) {
    if (this.source) return Promise.resolve(this.source);
    this._sending ??= this._client.upload(this.blob, { onprogress: progress }).catch((error) => {
      this._sending = null; // the next attempt begins anew
      throw error;
    });
    return this._sending;
  }

  /** Forgets that it was uploaded: the bridge keeps uploads for a day. */
  forget() {
    this._sending = null;
  }

  /** A URL to show it by, null where only the bridge has the bytes. */
  async url() {
    this.blob ??= this._load ? await this._load() : null;
    if (this.blob) this._url ??= URL.createObjectURL(this.blob);
    return this._url;
  }

  release() {
    if (this._url) URL.revokeObjectURL(this._url);
    this._url = null;
  }
}
