/** Values of a workflow's form under a name, in the browser's storage, for each client. */

import { readObject, writeObject } from "./marks.js";

export class Presets {
  constructor(client, storage = localStorage) {
    this.client = client;
    this.storage = storage;
  }

  /** Returns the names of a workflow's presets, sorted. */
  names(workflow) {
    return Object.keys(this._all(workflow)).sort((one, other) => one.localeCompare(other));
  }

  /** Returns the values of a preset, undefined if there is none. */
  get(workflow, name) {
    return this._all(workflow)[name];
  }

  /** Saves values under a name, in place of what was there; false if there is no room. */
  save(workflow, name, values) {
    return writeObject(this.storage, this._key(workflow), { ...this._all(workflow), [name]: values });
  }

  remove(workflow, name) {
    const all = this._all(workflow);
    delete all[name];
    writeObject(this.storage, this._key(workflow), all);
  }

  _key(workflow) {
    return `presets ${this.client} ${workflow}`;
  }

  _all(workflow) {
    return readObject(this.storage, this._key(workflow));
  }
}
