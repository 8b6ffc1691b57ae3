/**
 * Estimates when a running job will end, from its progress so far. Pure: the time is an argument.
 *
 * Models are loaded before the first step, so only the pace since the first progress counts.
 */

// Below these the pace is too uncertain to show.
const MIN_PERCENT = 3;
const MIN_S = 0.8;

export class EtaEstimate {
  constructor() {
    this.first = null;
    this.last = null;
  }

  /** Takes a job's progress, in percent, at a time in seconds. */
  add(percent, at) {
    if (percent <= 0) return;
    this.first ??= { percent, at };
    if (!this.last || percent > this.last.percent) this.last = { percent, at };
  }

  /** Seconds left at a time; null while it is too early to say. */
  remaining(at) {
    if (!this.first) return null;
    const percents = this.last.percent - this.first.percent;
    const seconds = this.last.at - this.first.at;
    if (percents < MIN_PERCENT || seconds < MIN_S) return null;
    const left = ((100 - this.last.percent) * seconds) / percents;
    return Math.max(0, left - (at - this.last.at));
  }
}
