/**
 * What was entered in a workflow's form, under a name, in the browser's storage, for each client: `values`
 * by input, the `axes` of a set, and what it is to `collect`.
 */

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

  /** Returns what was entered, undefined if there is no such preset. */
  get(workflow, name) {
    const found = this._all(workflow)[name];
    // Before there were sets, a preset was the values alone.
    return !found || Array.isArray(found.axes) ? found : { values: found, axes: [], collect: [] };
  }

  /** Saves what was entered in place of what was there; false if there is no room. */
  save(workflow, name, { values, axes, collect }) {
    const all = { ...this._all(workflow), [name]: { values, axes, collect } };
    return writeObject(this.storage, this._key(workflow), all);
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
