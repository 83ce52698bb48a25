// The token view: one text, coloured by what each term asks of a token, by their sum, or by what the update did.
const LEVELS = 4;
const RATIO = 3;
const ALL = "all";
const tokenView = { chosen: "sum", scales: new Map() };

// What a token weighs in a term, by gate and denominator; 1 where that was not recorded.
function getWeight(tokens, term, n) {
  const known = tokens.weights && tokens.weights[term] ? tokens.weights[term][n] : null;
  return isNumber(known) ? known : 1;
}

// Views of one episode: key -> name, meaning, and a value for each token (null where there is none).
function listTokenViews(detail) {
  const { tokens, coefficients } = detail;
  const count = tokens.text.length;
  const weights = coefficients || {};
  const terms = Object.keys(tokens.signals);
  const weigh = (term) => (isNumber(weights[term]) ? weights[term] : 1);
  const share = (term, n) => weigh(term) * getWeight(tokens, term, n);
  const each = (read) => Array.from({ length: count }, (_, n) => read(n));
  const views = [];
  if (terms.length) {
    views.push({ key: "sum", name: "sum of all terms", meaning: `what the loss asks, with each token's weight: ${terms.map((term) => `${format(weigh(term))} × ${term}`).join(" + ")}`,
      values: each((n) => {
        const parts = terms.map((term) => tokens.signals[term][n]).map((value, m) => (isNumber(value) ? share(terms[m], n) * value : null)).filter(isNumber);
        return parts.length ? parts.reduce((a, b) => a + b, 0) : null;
      }) });
  }
  for (const term of terms) views.push({ key: `term ${term}`, name: term, meaning: `signal of the term ${term}`, values: tokens.signals[term] });
  if (tokens.after) {
    views.push({ key: "update", name: "what the update did", meaning: "log p after the step − before, nats",
      values: each((n) => (isNumber(tokens.after[n]) && isNumber(tokens.before[n]) ? tokens.after[n] - tokens.before[n] : null)) });
  }
  if (tokens.teacher) {
    views.push({ key: "teacher", name: "teacher − policy", meaning: "log p(teacher) − log p, nats, before any gate",
      values: each((n) => (isNumber(tokens.teacher[n]) && isNumber(tokens.before[n]) ? tokens.teacher[n] - tokens.before[n] : null)) });
  }
  return views;
}

// |value| of the full colour: the 95th percentile of the episode. One scale for a view grows with the episodes opened.
function findScale(view) {
  const sizes = view.values.filter((value) => isNumber(value) && value !== 0).map(Math.abs).sort((a, b) => a - b);
  const own = sizes.length ? sizes[Math.floor(0.95 * (sizes.length - 1))] : 0;
  const scale = Math.max(own, tokenView.scales.get(view.key) || 0);
  tokenView.scales.set(view.key, scale);
  return scale || 1;
}

function pickShade(value, scale) {
  if (!isNumber(value) || value === 0) return "";
  let level = 0;
  for (let n = 1; n <= LEVELS; n++) if (Math.abs(value) >= scale / RATIO ** (LEVELS - n)) level = n;
  return level ? (value > 0 ? "p" : "n") + level : "";
}

// Share of the tokens that the sum asks to move which the update moved that way.
function measureObedience(views) {
  const sum = views.find((view) => view.key === "sum");
  const update = views.find((view) => view.key === "update");
  if (!sum || !update) return null;
  const asked = sum.values.map((value, n) => [value, update.values[n]]).filter(([a, b]) => isNumber(a) && a !== 0 && isNumber(b));
  const obeyed = asked.filter(([a, b]) => a * b > 0).length;
  return asked.length ? `The update moved ${obeyed} of ${asked.length} tokens (${Math.round((100 * obeyed) / asked.length)} %) the way this episode asks; the rest follows what other episodes of the step ask.` : null;
}

function describeToken(detail, views, n) {
  const { tokens, coefficients } = detail;
  const rows = [];
  const add = (name, value) => rows.push(make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  if (tokens.before) add("log p before", `${format(tokens.before[n])} (p = ${format(Math.exp(tokens.before[n]), 3)})`);
  if (tokens.after) add("log p after", isNumber(tokens.after[n]) ? `${format(tokens.after[n])} (p = ${format(Math.exp(tokens.after[n]), 3)}), ${signed(tokens.after[n] - tokens.before[n], 3)}` : UNKNOWN);
  if (tokens.teacher) add("log p of the teacher", isNumber(tokens.teacher[n]) ? `${format(tokens.teacher[n])}, ${signed(tokens.teacher[n] - tokens.before[n], 3)}` : "did not read it");
  if (tokens.advantage) add("advantage of its score", signed(tokens.advantage[n], 3));
  for (const term of Object.keys(tokens.signals)) {
    const weight = coefficients && isNumber(coefficients[term]) ? coefficients[term] : 1;
    const signal = tokens.signals[term][n];
    const heavy = getWeight(tokens, term, n);
    const parts = `${format(weight)} × ${heavy === 1 ? "" : `weight ${format(heavy, 3)} × `}${signed(signal, 3)}`;
    add(`term ${term}`, isNumber(signal) ? `${parts} = ${signed(weight * heavy * signal, 3)}` : UNKNOWN);
  }
  const sum = views.find((view) => view.key === "sum");
  if (sum) add("sum", signed(sum.values[n], 3));
  return make("div", { class: "inspector" }, make("p", {}, "token ", make("code", {}, JSON.stringify(tokens.text[n]))), make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "numbers of the token" }, make("table", { class: "keys" }, make("tbody", {}, ...rows))));
}

// Spans of the tokens `from` to `to`; `entry` keeps all spans of the episode, so that a choice of view recolours them.
function makeTokens(entry, from, to) {
  const { detail } = entry;
  const spans = [];
  for (let n = from; n < to; n++) {
    const span = make("span", { class: "t", "data-n": n }, detail.tokens.text[n]);
    entry.spans[n] = span;
    spans.push(span);
  }
  const box = make("div", { class: "tokens-text", tabindex: 0, role: "group", "aria-label": "answer, token by token; left and right arrow keys go from token to token" }, ...spans);
  box.addEventListener("pointerover", (event) => { if (event.target.dataset.n) inspect(entry, Number(event.target.dataset.n)); });
  box.addEventListener("click", (event) => { if (event.target.dataset.n) inspect(entry, Number(event.target.dataset.n)); });
  box.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    const at = entry.at === undefined || entry.at < from || entry.at >= to ? (direction > 0 ? from - 1 : to) : entry.at;
    inspect(entry, Math.min(to - 1, Math.max(from, at + direction)));
  });
  return box;
}

function inspect(entry, n) {
  if (entry.at !== undefined) entry.spans[entry.at].classList.remove("at");
  entry.at = n;
  entry.spans[n].classList.add("at");
  entry.inspector.replaceChildren(describeToken(entry.detail, entry.views, n));
}

function colourTokens(entry) {
  const all = tokenView.chosen === ALL;
  for (const button of entry.buttons) button.setAttribute("aria-pressed", String(button.dataset.key === tokenView.chosen));
  entry.strips.replaceChildren(...(all ? entry.views.map((view) => makeStrip(entry, view)) : []));
  const view = entry.views.find((one) => one.key === tokenView.chosen) || entry.views[0];
  if (!view) return;
  const scale = findScale(view);
  entry.spans.forEach((span, n) => {
    const shade = pickShade(view.values[n], scale);
    const at = span.classList.contains("at") ? " at" : "";
    span.className = `t ${shade}${at}`;
  });
  const shades = [];
  for (let n = LEVELS; n > 0; n--) shades.push(make("i", { class: `n${n}` }));
  shades.push(make("i"));
  for (let n = 1; n <= LEVELS; n++) shades.push(make("i", { class: `p${n}` }));
  entry.legend.replaceChildren(make("span", {}, signed(-scale)), make("span", { class: "shades" }, ...shades), make("span", {}, `${signed(scale)} or beyond, each shade ${RATIO} times the one before`), make("span", {}, view.meaning));
}

// One view as a line of its own, its name before it; all lines together show what pulls where.
function makeStrip(entry, view) {
  const scale = findScale(view);
  const spans = view.values.map((value, n) => make("span", { class: `t ${pickShade(value, scale)}` }, entry.detail.tokens.text[n]));
  return make("div", { class: "strip" }, make("span", { class: "soft" }, view.name), make("div", { class: "tokens-text" }, ...spans), make("span", { class: "soft" }, `± ${format(scale, 2)}`));
}

// The buttons of the views, a legend, and the place for the numbers of one token.
function startTokens(entry, recolour) {
  entry.spans = [];
  entry.views = listTokenViews(entry.detail);
  entry.legend = make("div", { class: "shown-legend" });
  entry.inspector = make("div", { "aria-live": "polite" }, make("p", { class: "soft" }, "Point at a token, or go through them with the arrow keys."));
  entry.strips = make("div", { class: "strips" });
  const all = { key: ALL, name: "all at once" };
  entry.buttons = [...entry.views, ...(entry.views.length > 1 ? [all] : [])].map((view) => make("button", { type: "button", "data-key": view.key, "aria-pressed": "false", onclick: () => { tokenView.chosen = view.key; recolour(); } }, view.name));
  const obedience = measureObedience(entry.views);
  return make("div", { class: "views" }, make("div", { class: "toggle", role: "group", "aria-label": "what the colours stand for" }, ...entry.buttons), entry.legend, entry.strips, obedience ? make("p", { class: "soft" }, obedience) : null);
}
