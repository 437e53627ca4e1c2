// Numbers as a person reads them.

const whole = new Intl.NumberFormat("en");
const POWERS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

export const count = (number) => whole.format(number);

/** Bytes with three digits: "512 B", "1.21 KiB", "34.5 MiB". */
export function bytes(number) {
  if (number < 1000) return `${Math.round(number)} B`;
  let value = number;
  let power = -1;
  do {
    value /= 1024;
    power += 1;
  } while (value >= 999.5 && power < POWERS.length - 1);
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${POWERS[power]}`;
}

/** Bytes a second; a dash while that is not known. */
export const rate = (number) => (number === null ? "–" : `${bytes(number)}/s`);

/** How long something took: "850 µs", "12 ms", "1.25 s"; a dash for nothing. */
export function took(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
}

/** An age, by its two largest units: "4 s", "3 min 12 s", "2 d 4 h". */
export function age(seconds) {
  const all = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(all / unit));
  if (days) return `${count(days)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  if (minutes) return `${minutes} min ${all % 60} s`;
  return `${all} s`;
}

/** A Date from a time with a zone as the log writes it, "+0100", which not every browser reads. */
export const parsed = (time) => new Date(time.replace(/([+-]\d\d)(\d\d)$/, "$1:$2"));

/** The time of day of a Date, with the date unless that is today's. */
export function clock(date) {
  const pad = (number) => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(pad).join(":");
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${time}`;
}

/** Counts by cause, the largest first: "no-answer 12, connection-refused 3". */
export function causes(counts) {
  const sorted = Object.entries(counts).filter(([, n]) => n).sort(([, a], [, b]) => b - a);
  return sorted.map(([cause, n]) => `${cause} ${count(n)}`).join(", ");
}

export const sum = (counts) => Object.values(counts).reduce((total, n) => total + n, 0);
