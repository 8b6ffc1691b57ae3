/**
 * Media that a field of the form contains: a file, which is uploaded as soon as it is chosen, or a
 * source that the bridge has already (a job's output, an earlier upload).
 */

export class MediaInput {
  /**
   * `source` is a media source as in the contract, null for a file that is not uploaded yet; `blob`
   * the bytes, if the page has them; `load()` fetches the bytes of a source, null if none can.
   */
  constructor({ client, filename, blob = null, source = null, load = null }) {
    this.filename = filename;
    this.blob = blob;
    this.source = source;
    this._client = client;
    this._load = load;
    this._upload = null;
    this._url = null;
  }

  /**
   * Uploads the file if that is needed, once for all callers, and resolves with the media source.
   * `progress(share)` is called with the uploaded share, from 0 to 1.
   */
  send(progress = () => {}) {
    if (this.source) return Promise.resolve(this.source);
    this._upload ??= this._client.upload(this.blob, { onprogress: progress }).catch((error) => {
      this._upload = null; // the next call uploads again
      throw error;
    });
    return this._upload;
  }

  /** Makes the next `send` upload again: the bridge deletes uploads after a day. */
  forget() {
    this._upload = null;
  }

  /** Resolves with a URL to show the media by, null where only the bridge has the bytes. */
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
