/**
 * When a running job will end, from how its percents came so far. Pure: the time is an argument.
 *
 * Models are loaded before the first step, so what counts is the pace since the first progress.
 */

const ENOUGH_PERCENT = 3;
const ENOUGH_S = 0.8;

export class Estimate {
  constructor() {
    this.first = null;
    this.last = null;
  }

  note(percent, at) {
    if (percent <= 0) return;
    this.first ??= { percent, at };
    if (!this.last || percent > this.last.percent) this.last = { percent, at };
  }

  /** Seconds that are left, null while it is too early to say. */
  remaining(at) {
    if (!this.first) return null;
    const percents = this.last.percent - this.first.percent;
    const seconds = this.last.at - this.first.at;
    if (percents < ENOUGH_PERCENT || seconds < ENOUGH_S) return null;
    const left = ((100 - this.last.percent) * seconds) / percents;
    return Math.max(0, left - (at - this.last.at));
  }
}
