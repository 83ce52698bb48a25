// Numbers as they are printed, and the few sums that curves need.
const UNKNOWN = "–";

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function format(value, digits) {
  if (!isNumber(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(digits || 4)));
}

function signed(value, digits) {
  return isNumber(value) ? (value > 0 ? "+" : "") + value.toFixed(digits === undefined ? 2 : digits) : UNKNOWN;
}

// Centred running mean over `share` of the curve; the ends use what there is.
function smooth(values, share) {
  const reach = Math.floor((values.length * share) / 2);
  if (reach < 1) return values;
  const total = [0];
  for (const value of values) total.push(total[total.length - 1] + value);
  return values.map((_, n) => {
    const low = Math.max(0, n - reach);
    const high = Math.min(values.length, n + reach + 1);
    return (total[high] - total[low]) / (high - low);
  });
}

// Mean, lowest and highest of several curves at every x that two or more of them have (all, where there is one).
function gather(lines) {
  const at = new Map();
  for (const line of lines) {
    line.x.forEach((x, n) => {
      if (isNumber(line.y[n])) at.set(x, [...(at.get(x) || []), line.y[n]]);
    });
  }
  const least = Math.min(2, lines.length);
  const x = [...at.keys()].filter((key) => at.get(key).length >= least).sort((a, b) => a - b);
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  return {
    x,
    mean: x.map((key) => sum(at.get(key)) / at.get(key).length),
    low: x.map((key) => Math.min(...at.get(key))),
    high: x.map((key) => Math.max(...at.get(key))),
  };
}
