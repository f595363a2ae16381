// Shows the session time as QR codes. What a code says is when it first appeared, so many refreshes of the measured
// period after the start, in microseconds: codes lie on an exact grid. A code stays for an odd number of refreshes, at
// least 40 ms: exposures of some 20 ms still show it whole, and cameras of 25, 30, 50 and 60 pictures a second meet it
// at several of its moments, as they would not if it stayed for one picture. The first code is no whole millisecond, by
// which readers tell in which unit all are written.
const QUIET = 4, FIRST_US = 100000001, MEASURE_MS = 4000, LEAST_MS = 40;
const canvas = document.querySelector("canvas"), note = document.querySelector("p"), context = canvas.getContext("2d");
let seen = [], period = null, hold = 1, origin = 0, refreshes = 0, shown = -1, missed = 0;

function measured(times) {  // milliseconds a refresh, by least squares over refreshes that may have been left out
  const gaps = times.slice(1).map((t, i) => t - times[i]).sort((a, b) => a - b), usual = gaps[gaps.length >> 1];
  let k = 0;
  const at = times.map((t, i) => (k += i ? Math.round((t - times[i - 1]) / usual) : 0, [k, t]));
  const mean = [0, 1].map(j => at.reduce((sum, point) => sum + point[j], 0) / at.length);
  const up = at.reduce((sum, [x, y]) => sum + (x - mean[0]) * (y - mean[1]), 0);
  return Math.round(1000 * up / at.reduce((sum, [x]) => sum + (x - mean[0]) ** 2, 0));
}

function draw(us) {
  const dark = QR("MOTIFS-T=" + (us / 1000).toFixed(3)), side = dark.length + 2 * QUIET;
  canvas.width = canvas.height = side;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, side, side);
  context.fillStyle = "#000";
  dark.forEach((row, r) => row.forEach((is, c) => { if (is) context.fillRect(c + QUIET, r + QUIET, 1, 1); }));
}

function refresh(now) {
  requestAnimationFrame(refresh);
  if (period === null) {
    seen.push(now);
    if (now - seen[0] < MEASURE_MS) return;
    period = measured(seen);
    while (hold * period < 1000 * LEAST_MS) hold += 2;
    origin = now;
  }
  const k = Math.round((now - origin) / (period / 1000));
  missed += Math.max(k - refreshes - 1, 0);
  refreshes = k;
  const code = Math.floor(k / hold);
  if (code === shown) return;
  shown = code;
  draw(FIRST_US + code * hold * period);
  note.textContent = `${(1e6 / period / hold).toFixed(2)} codes a second, ${((now - origin) / 1000).toFixed(0)} s: ` +
    (missed > 0.02 * k + 5 ? `${missed} refreshes were left out, close other programs` : "show it to every camera");
}

document.body.addEventListener("click", () => document.documentElement.requestFullscreen().catch(() => {}));
requestAnimationFrame(refresh);
