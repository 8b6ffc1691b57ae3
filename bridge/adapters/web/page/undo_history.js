/** States to go back and forward to, within a bound of memory. Pure. */

export class UndoHistory {
  /** `limit` is how much all states together may weigh, `weigh(state)` how much one does. */
  constructor(limit, weigh) {
    this.limit = limit;
    this.weigh = weigh;
    this.before = [];
    this.after = [];
  }

  /** Notes a state that is about to change; what was undone cannot be redone any more. */
  save(state) {
    this.before.push(state);
    this.after = [];
    let weight = this.before.reduce((sum, each) => sum + this.weigh(each), 0);
    while (weight > this.limit && this.before.length > 1) weight -= this.weigh(this.before.shift());
  }

  get canUndo() {
    return this.before.length > 0;
  }

  get canRedo() {
    return this.after.length > 0;
  }

  /** Returns the state before, undefined if there is none; `now` can be redone. */
  undo(now) {
    const state = this.before.pop();
    if (state !== undefined) this.after.push(now);
    return state;
  }

  /** Returns the state before, which is as if it had never been left: nothing can be redone. */
  drop() {
    return this.before.pop();
  }

  /** Returns the state that was undone last, undefined if there is none. */
  redo(now) {
    const state = this.after.pop();
    if (state !== undefined) this.before.push(now);
    return state;
  }
}
