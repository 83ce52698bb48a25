// Learning curves: one plot a column, with the value under the pointer, a switch for each arm and seed, a logarithmic
// axis and smoothing. Plots are made when they come into view.
const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3]];
const curves = { data: null, plots: new Map(), hidden: new Set(), seeds: new Set(), log: false, share: 0.1, bands: true };

function listSeeds(data) {
  return [...new Set(data.runs.map((run) => run.seed))].sort((a, b) => a - b || String(a).localeCompare(b));
}

function hasSeeds(data) {
  return data.runs.some((run, n) => data.runs.some((other, m) => m !== n && other.arm === run.arm));
}

// What is drawn in one panel: lines with name, colour, dash and width; of several seeds a mean with a band.
function listLines(panel) {
  const { data } = curves;
  const shown = panel.lines.filter(({ run }) => {
    const { arm, seed } = data.runs[run];
    return !curves.hidden.has(arm) && !curves.seeds.has(seed);
  });
  const found = [];
  data.arms.forEach((arm, number) => {
    const own = shown.filter(({ run }) => data.runs[run].arm === number);
    const dash = DASHES[number % DASHES.length];
    if (own.length > 1 && curves.bands) {
      const { x, mean, low, high } = gather(own.map((line) => ({ x: line.x, y: smooth(line.y, curves.share) })));
      found.push({ name: `${arm.name} (mean of ${own.length} seeds)`, arm, x, y: mean, dash, width: 2.2, low, high });
      return;
    }
    own.forEach((line, place) => {
      const run = data.runs[line.run];
      const name = own.length > 1 || hasSeeds(data) ? `${arm.name}, seed ${run.seed}` : arm.name;
      if (curves.share > 0 && line.y.length > 3) {
        found.push({ arm, x: line.x, y: line.y, dash: [], width: 0.8, faint: true });
      }
      const style = own.length > 1 ? DASHES[place % DASHES.length] : dash;
      found.push({ name, arm, x: line.x, y: smooth(line.y, curves.share), dash: style, width: 2 });
    });
  });
  return found;
}

function keepPositive(values) {
  return curves.log ? values.map((value) => (value > 0 ? value : null)) : values;
}

// uPlot wants one x for all lines: series of one line are its value and, with a band, its two edges.
function align(lines) {
  const tables = [];
  const series = [{}];
  const bands = [];
  for (const line of lines) {
    const colour = line.arm.colour;
    const columns = [line.x, keepPositive(line.y)];
    line.place = series.length;
    series.push({
      stroke: line.faint ? `${colour}59` : colour,
      width: line.width,
      dash: line.dash,
      spanGaps: true,
      points: { show: line.y.length < 3 && !line.faint },
    });
    if (line.low) {
      columns.push(keepPositive(line.high), keepPositive(line.low));
      bands.push({ series: [line.place + 1, line.place + 2], fill: `${colour}2e` });
      for (let edge = 0; edge < 2; edge++) {
        series.push({ stroke: "transparent", width: 0, spanGaps: true, points: { show: false } });
      }
    }
    tables.push(columns);
  }
  return { values: uPlot.join(tables), series, bands };
}

// A curve that does not move gets an axis around its value.
function pickRange(plot, low, high) {
  if (!isNumber(low) || !isNumber(high)) return [0, 1];
  if (low === high) return [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
  return uPlot.rangeNum(low, high, 0.1, true);
}

function drawPlot(entry) {
  const lines = listLines(entry.panel);
  if (entry.plot) entry.plot.destroy();
  entry.plot = null;
  entry.lines = lines;
  entry.box.replaceChildren();
  const known = lines.some((line) => keepPositive(line.y).some(isNumber));
  if (!known) {
    const why = lines.length && curves.log ? "No value above 0, so nothing on a logarithmic axis." : "Nothing is switched on.";
    entry.box.append(make("p", { class: "soft" }, why));
    entry.values.replaceChildren();
    return;
  }
  const { values, series, bands } = align(lines);
  const axis = { stroke: readStyle("--soft"), grid: { stroke: readStyle("--line"), width: 1 }, ticks: { show: false } };
  const size = { width: Math.max(200, entry.box.clientWidth), height: 230 };
  entry.plot = new uPlot(
    {
      ...size,
      series,
      bands,
      legend: { show: false },
      scales: { x: { time: false }, y: curves.log ? { distr: 3 } : { range: pickRange } },
      axes: [{ ...axis, label: "optimiser step", labelSize: 22, size: 32 }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick, 3))) }],
      cursor: { sync: { key: "steps" }, points: { size: 7 }, drag: { x: true, y: false } },
      hooks: { setCursor: [() => showValues(entry)] },
    },
    values,
    entry.box,
  );
  showValues(entry);
}

// The value of each line at the pointer, or its last one.
function showValues(entry) {
  const { plot, lines } = entry;
  if (!plot) return;
  const index = plot.cursor.idx;
  const at = index === null || index === undefined ? plot.data[0].length - 1 : index;
  const rows = lines.filter((line) => !line.faint).map((line) => {
    const read = (place) => {
      for (let n = at; n >= 0; n--) if (isNumber(plot.data[place][n])) return plot.data[place][n];
      return null;
    };
    const range = line.low ? ` [${format(read(line.place + 2))}, ${format(read(line.place + 1))}]` : "";
    const mark = make("i", { class: "swatch", style: { background: line.arm.colour } });
    return make("li", {}, mark, `${line.name}: `, make("b", {}, format(read(line.place)) + range));
  });
  entry.values.replaceChildren(make("li", { class: "at" }, `step ${format(plot.data[0][at], 6)}`), ...rows);
}

function moveCursor(entry, event) {
  const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!direction || !entry.plot) return;
  event.preventDefault();
  const { plot } = entry;
  const last = plot.data[0].length - 1;
  const from = isNumber(plot.cursor.idx) ? plot.cursor.idx : direction > 0 ? -1 : last + 1;
  const to = Math.min(last, Math.max(0, from + direction));
  plot.setCursor({ left: plot.valToPos(plot.data[0][to], "x"), top: plot.bbox.height / devicePixelRatio / 2 });
}

function addPlot(panel) {
  const box = make("div", { class: "plot", tabindex: 0, role: "group", "aria-label": `${panel.title}; left and right arrow keys read it step by step` });
  const values = make("ul", { class: "values", "aria-live": "polite" });
  const unit = make("span", { class: "soft" }, ` ${panel.unit}`);
  const figure = make("figure", { class: "curve", "data-column": panel.column }, make("h3", {}, panel.title, unit), box, values);
  const entry = { panel, box, values, figure, plot: null, seen: false };
  box.addEventListener("keydown", (event) => moveCursor(entry, event));
  curves.plots.set(panel.column, entry);
  find("plots").append(figure);
  curves.watcher.observe(figure);
  return entry;
}

function redrawCurves() {
  for (const entry of curves.plots.values()) if (entry.seen) drawPlot(entry);
}

function buildSwitches() {
  const { data } = curves;
  const flip = (set, key) => (on) => {
    if (on) set.delete(key);
    else set.add(key);
    redrawCurves();
  };
  const parts = [group("Arms", ...data.arms.map((arm, n) => checkbox(arm.name, !curves.hidden.has(n), flip(curves.hidden, n), arm.colour)))];
  if (hasSeeds(data)) {
    parts.push(group("Seeds", ...listSeeds(data).map((seed) => checkbox(`seed ${seed}`, !curves.seeds.has(seed), flip(curves.seeds, seed)))));
    parts.push(checkbox("mean, lowest and highest seed", curves.bands, (on) => { curves.bands = on; redrawCurves(); }));
  }
  const range = make("input", { type: "range", min: 0, max: 40, value: 100 * curves.share, "aria-label": "smoothing, per cent of the curve" });
  range.addEventListener("input", () => { curves.share = range.value / 100; redrawCurves(); });
  parts.push(label("smoothing", range));
  parts.push(checkbox("logarithmic", curves.log, (on) => { curves.log = on; redrawCurves(); }));
  const more = data.panels.filter((panel) => !panel.main && !curves.plots.has(panel.column));
  if (more.length) {
    const options = [["", `${more.length} further numbers …`], ...more.map((panel) => [panel.column, panel.title])];
    parts.push(select("add a curve", options, "", (column) => {
      const panel = data.panels.find((one) => one.column === column);
      if (panel) addPlot(panel).figure.scrollIntoView({ block: "nearest" });
      buildSwitches();
    }));
  }
  find("switches").replaceChildren(...parts);
}

function drawAll() {
  for (const entry of curves.plots.values()) if (!entry.seen) { entry.seen = true; drawPlot(entry); }
}

function startCurves(data) {
  curves.data = data;
  curves.share = Math.max(0, ...data.panels.flatMap((panel) => panel.lines.map((line) => line.y.length))) < 12 ? 0 : 0.1;
  curves.watcher = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      const entry = curves.plots.get(target.dataset.column);
      if (isIntersecting && entry && !entry.seen) { entry.seen = true; drawPlot(entry); }
    }
  }, { rootMargin: "300px" });
  buildSwitches();
  data.panels.filter((panel) => panel.main).forEach(addPlot);
  addEventListener("resize", () => {
    for (const { plot, box } of curves.plots.values()) if (plot) plot.setSize({ width: Math.max(200, box.clientWidth), height: 230 });
  });
  addEventListener("beforeprint", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCurves);
}

// New numbers of a run that goes on: switches stay as they are set.
function updateCurves(data) {
  const arms = JSON.stringify(curves.data.arms) + JSON.stringify(curves.data.runs);
  curves.data = data;
  for (const panel of data.panels) {
    const entry = curves.plots.get(panel.column);
    if (entry) {
      entry.panel = panel;
      if (entry.seen) drawPlot(entry);
    } else if (panel.main) addPlot(panel);
  }
  if (arms !== JSON.stringify(data.arms) + JSON.stringify(data.runs)) buildSwitches();
}
