/** Numbers, times and states as texts for the page. Pure. */

import { say, sayCount, sayOr } from "./texts.js";

const LARGEST_UNIT = 3;

export function bytes(count) {
  let unit = 0;
  while (count >= 1000 && unit < LARGEST_UNIT) {
    count /= 1000;
    unit += 1;
  }
  return say(`bytes.${unit}`, { count: unit === 0 || count >= 10 ? Math.round(count) : count.toFixed(1) });
}

export function seconds(count) {
  if (count < 10) return say("seconds", { count: count.toFixed(1) });
  if (count < 90) return say("seconds", { count: Math.round(count) });
  if (count < 5400) return say("minutes", { count: Math.round(count / 60) });
  return say("hours", { count: (count / 3600).toFixed(1) });
}

/** A number of seconds to come, rounded to the precision of an estimate. */
export function estimate(count) {
  if (count < 3) return say("estimate.moment");
  if (count < 10) return say("estimate.few");
  return say("estimate.about", { time: rounded(count) });
}

function rounded(count) {
  if (count < 55) return say("seconds", { count: Math.round(count / 5) * 5 });
  if (count < 3300) return say("minutes", { count: Math.max(1, Math.round(count / 60)) });
  return say("hours", { count: (count / 3600).toFixed(1) });
}

/** A time in the past, relative to `now` if it is recent; both in seconds since the epoch. */
export function when(at, now) {
  const ago = now - at;
  if (ago < 60) return say("when.now");
  if (ago < 3600) return say("when.minutes", { count: Math.floor(ago / 60) });
  const time = new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (new Date(at * 1000).toDateString() === new Date(now * 1000).toDateString()) return time;
  return say("when.date", { day: date(at), time });
}

/** A day, such as 29 Nov; with the year where it is another than this one's. */
export function date(at) {
  const day = new Date(at * 1000);
  const year = day.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return day.toLocaleDateString([], { day: "numeric", month: "short", year });
}

/** A position in the queue: the number of jobs that start before this one. */
export function place(position) {
  if (position === undefined) return say("place.queued");
  return position === 0 ? say("place.next") : sayCount("place", position);
}

export function state(name) {
  return sayOr(`state.${name}`, name);
}

/** A name as a title: `negative_prompt` becomes "Negative prompt". */
export function title(name) {
  return capital(name.replace(/[_-]+/g, " ").trim());
}

/** A text that begins with a capital letter. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
