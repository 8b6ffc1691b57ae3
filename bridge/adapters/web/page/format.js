/** Numbers, times and states as texts for the page. Pure. */

const UNITS = ["bytes", "KB", "MB", "GB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1000 && unit < UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit === 0 || count >= 10 ? Math.round(count) : count.toFixed(1)} ${UNITS[unit]}`;
}

export function seconds(count) {
  if (count < 10) return `${count.toFixed(1)} s`;
  if (count < 90) return `${Math.round(count)} s`;
  if (count < 5400) return `${Math.round(count / 60)} min`;
  return `${(count / 3600).toFixed(1)} h`;
}

/** A number of seconds to come, rounded to the precision of an estimate. */
export function estimate(count) {
  if (count < 3) return "a moment";
  if (count < 10) return "a few seconds";
  if (count < 55) return `about ${Math.round(count / 5) * 5} s`;
  if (count < 3300) return `about ${Math.max(1, Math.round(count / 60))} min`;
  return `about ${(count / 3600).toFixed(1)} h`;
}

/** A time in the past, relative to `now` if it is recent; both in seconds since the epoch. */
export function when(at, now) {
  const ago = now - at;
  if (ago < 60) return "just now";
  if (ago < 3600) return `${Math.floor(ago / 60)} min ago`;
  const day = new Date(at * 1000);
  const time = day.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (day.toDateString() === new Date(now * 1000).toDateString()) return time;
  return `${day.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** A position in the queue: the number of jobs that start before this one. */
export function place(position) {
  if (position === undefined) return "queued";
  if (position === 0) return "next in line";
  return position === 1 ? "1 job ahead" : `${position} jobs ahead`;
}

const STATES = {
  sending: "sending",
  waiting: "waiting for its inputs",
  queued: "queued",
  running: "running",
  succeeded: "done",
  failed: "failed",
  cancelled: "cancelled",
  expired: "expired",
};

export function state(name) {
  return STATES[name] ?? name;
}

/** A name as a title: `negative_prompt` becomes "Negative prompt". */
export function title(name) {
  const plain = name.replace(/[_-]+/g, " ").trim();
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}
