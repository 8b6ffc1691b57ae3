/**
 * What the user marked: favourites, and jobs whose outputs the bridge keeps for longer. In the
 * browser's storage, for each client. Of kept jobs the result is noted too: the bridge forgets it
 * before their outputs.
 */

// The storage has a few megabytes; the oldest marks go first.
const MAX_MARKS = 500;

export class Marks {
  /** `storage` is localStorage, or what does the same. */
  constructor(client, storage = localStorage) {
    this.storage = storage;
    this.name = `marks ${client}`;
  }

  /** All marks by job id, each `{ favourite?, keptUntil?, job? }`. */
  all() {
    return readObject(this.storage, this.name);
  }

  of(id) {
    return this.all()[id] ?? {};
  }

  /** Changes a job's mark; one that says nothing any more goes. Returns it. */
  set(id, change) {
    const marks = this.all();
    const mark = { ...marks[id], ...change };
    delete marks[id];
    if (mark.favourite || mark.keptUntil) marks[id] = mark;
    for (const oldest of Object.keys(marks).slice(0, -MAX_MARKS)) delete marks[oldest];
    writeObject(this.storage, this.name, marks);
    return mark;
  }

  remove(id) {
    this.set(id, { favourite: false, keptUntil: null });
  }
}

/** Returns an object from a storage, an empty one for what is none. */
export function readObject(storage, name) {
  try {
    const found = JSON.parse(storage.getItem(name) ?? "{}");
    return found && typeof found === "object" && !Array.isArray(found) ? found : {};
  } catch {
    return {};
  }
}

/** Writes an object; false if the storage is full or forbidden. */
export function writeObject(storage, name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
