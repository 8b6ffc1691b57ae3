/**
 * The pictures that jobs of this page were given, to compare their outputs with: the bridge gives no
 * upload back. In memory only, so that no photo stays on a device after its window was closed.
 */

const MAX_BYTES = 128 * 1024 * 1024;

export class InputPictures {
  constructor(client) {
    this.client = client;
    this.uploads = new Map(); // upload id -> Blob, the newest last
  }

  /** Remembers the bytes of an upload. */
  note(upload, blob) {
    this.uploads.delete(upload);
    this.uploads.set(upload, blob);
    let size = [...this.uploads.values()].reduce((sum, each) => sum + each.size, 0);
    for (const [oldest, { size: freed }] of this.uploads) {
      if (size <= MAX_BYTES || this.uploads.size === 1) return;
      this.uploads.delete(oldest);
      size -= freed;
    }
  }

  /** The source of a job's picture, if it was given one here; undefined if not. */
  sourceOf(view) {
    const { properties = {} } = this.client.workflows.get(view.job.workflow)?.inputs ?? {};
    return Object.entries(view.media)
      .filter(([name]) => properties[name]?.["x-kind"] === "image")
      .map(([, { source }]) => source)
      .find((source) => source.job !== undefined || this.uploads.has(source.upload));
  }

  /** Resolves with the bytes of a source. @throws {BridgeError} if an output was deleted. */
  async get(source) {
    return this.uploads.get(source.upload) ?? this.client.fetch(source.job, source.output ?? 0);
  }
}
