// The training episodes that the run kept: sorted, filtered and searched; the text of one is unpacked when it is opened.
const PAGE = 25;
const SORTS = {
  step: ["first step first", (at, e) => [e.step[at] === null ? Infinity : e.step[at], at]],
  last: ["last step first", (at, e) => [-(e.step[at] === null ? -1 : e.step[at]), at]],
  longest: ["longest", (at, e) => [-e.length[at], at]],
  change: ["changed most", (at, e) => [e.change[at] === null ? 1 : -e.change[at], at]],
  disagreement: ["terms disagree most", (at, e) => [e.disagreement[at] === null ? 1 : -e.disagreement[at], at]],
  worst: ["lowest score", (at, e) => [e.score[at] === null ? 2 : e.score[at], at]],
  best: ["highest score", (at, e) => [e.score[at] === null ? 2 : -e.score[at], at]],
};
const episodes = { data: null, shown: PAGE, open: new Map(), chunks: new Map(), found: [], turn: 0, filter: { text: "", arm: "", who: "", sort: "step", from: "", to: "", low: "", high: "", refused: false, tokens: false, critique: false } };

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

async function readChunk(run, chunk) {
  const key = `${run}-${chunk}`;
  if (episodes.chunks.has(key)) return episodes.chunks.get(key);
  const held = find(`chunk-${key}`);
  const reading = held ? unpack(held.textContent) : fetch(`/chunk/${key}`).then((reply) => reply.json());
  episodes.chunks.set(key, reading);
  if (episodes.chunks.size > 400) episodes.chunks.delete(episodes.chunks.keys().next().value);
  return reading;
}

async function readEpisode(at) {
  const { episodes: e, chunk } = episodes.data;
  const several = await readChunk(e.run[at], Math.floor(e.place[at] / chunk));
  return several[e.place[at] % chunk];
}

function passes(at) {
  const { filter: f, data } = episodes;
  const e = data.episodes;
  const within = (value, low, high) => (low === "" && high === "") || (isNumber(value) && (low === "" || value >= Number(low)) && (high === "" || value <= Number(high)));
  return (f.arm === "" || String(data.runs[e.run[at]].arm) === f.arm) && (f.who === "" || e.who[at].includes(f.who)) &&
    within(e.step[at], f.from, f.to) && within(e.score[at], f.low, f.high) &&
    (!f.refused || e.refused[at]) && (!f.tokens || e.tokens[at]) && (!f.critique || e.critique[at]);
}

// Whether prompt, answer, critique, rewrite or id contain the words; the list says how far the search has come.
async function searchText(found, turn) {
  const words = episodes.filter.text.toLowerCase();
  const e = episodes.data.episodes;
  const kept = [];
  for (let n = 0; n < found.length; n++) {
    const at = found[n];
    let hit = e.snippet[at].toLowerCase().includes(words) || e.id[at].toLowerCase().includes(words);
    if (!hit) {
      const detail = await readEpisode(at);
      const texts = detail ? [asText(detail.prompt), detail.response, detail.critique, detail.revision, asText(detail.conversation)] : [];
      hit = texts.some((text) => typeof text === "string" && text.toLowerCase().includes(words));
    }
    if (turn !== episodes.turn) return null;
    if (hit) kept.push(at);
    if (n % 500 === 499) find("episode-count").textContent = `searched ${n + 1} of ${found.length} …`;
  }
  return kept;
}

async function filterEpisodes() {
  const turn = ++episodes.turn;
  const e = episodes.data.episodes;
  const count = e.run ? e.run.length : 0;
  let found = Array.from({ length: count }, (_, at) => at).filter(passes);
  if (episodes.filter.text) found = await searchText(found, turn);
  if (found === null) return;
  const key = SORTS[episodes.filter.sort][1];
  const keys = new Map(found.map((at) => [at, key(at, e)]));
  found.sort((a, b) => keys.get(a)[0] - keys.get(b)[0] || keys.get(a)[1] - keys.get(b)[1]);
  episodes.found = found;
  find("episode-count").textContent = `${found.length} of ${count} episodes`;
  listEpisodes();
}

function describe(at) {
  const { data } = episodes;
  const e = data.episodes;
  const run = data.runs[e.run[at]];
  const parts = [isNumber(e.score[at]) ? `score ${format(e.score[at], 3)}` : "not scored", `advantage ${signed(e.advantage[at])}`];
  if (isNumber(e.change[at])) parts.push(`change ${format(e.change[at], 3)} nats`);
  if (isNumber(e.disagreement[at])) parts.push(`terms disagree on ${Math.round(100 * e.disagreement[at])} %`);
  if (isNumber(e.turns[at])) parts.push(`${e.turns[at]} turns`);
  if (e.refused[at]) parts.push("rewrite refused");
  const where = data.runs.length > 1 ? `${run.name} · ` : "";
  return [make("b", {}, `${where}step ${format(e.step[at], 9)}`), make("span", {}, parts.join(" · ")), make("span", { class: "snippet" }, e.snippet[at])];
}

function makeItem(at) {
  const body = make("div", {});
  const item = make("details", { class: "episode", "data-id": episodes.data.episodes.id[at] }, make("summary", {}, ...describe(at)), body);
  item.addEventListener("toggle", async () => {
    if (!item.open || episodes.open.has(item)) return;
    const entry = {};
    episodes.open.set(item, entry);
    entry.detail = await readEpisode(at);
    body.replaceChildren(entry.detail ? makeEpisode(entry, recolourAll) : make("p", {}, "This episode was written again since."));
  });
  return item;
}

function recolourAll() {
  for (const entry of episodes.open.values()) if (entry.spans) colourTokens(entry);
}

function listEpisodes() {
  const list = find("episode-list");
  episodes.open.clear();
  const shown = episodes.found.slice(0, episodes.shown);
  list.replaceChildren(...shown.map(makeItem));
  if (episodes.found.length > shown.length) {
    list.append(make("button", { type: "button", onclick: () => { episodes.shown += PAGE; listEpisodes(); } }, `show ${Math.min(PAGE, episodes.found.length - shown.length)} more`));
  }
}

function buildFilters() {
  const { filter, data } = episodes;
  const set = (name) => (value) => {
    filter[name] = value;
    episodes.shown = PAGE;
    filterEpisodes();
  };
  const field = (name, text, type, extra) => {
    const box = make("input", { type, ...extra });
    box.value = filter[name];
    let timer = 0;
    box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => set(name)(box.value.trim()), 200); });
    return label(text, box);
  };
  const e = data.episodes;
  const names = [...new Set((e.who || []).flat())].sort();
  const number = { class: "narrow", step: "any" };
  const parts = [
    field("text", "search", "search", { id: "episode-search", placeholder: "words of prompt, answer, critique" }),
    select("sort", Object.entries(SORTS).map(([key, [name]]) => [key, name]), filter.sort, set("sort")),
  ];
  if (data.arms.length > 1) parts.push(select("arm", [["", "all"], ...data.arms.map((arm, n) => [String(n), arm.name])], filter.arm, set("arm")));
  if (names.length) parts.push(select("annotator", [["", "all"], ...names.map((name) => [name, name])], filter.who, set("who")));
  parts.push(field("from", "step from", "number", number), field("to", "to", "number", number));
  parts.push(field("low", "score from", "number", number), field("high", "to", "number", number));
  parts.push(checkbox("with tokens", filter.tokens, set("tokens")), checkbox("criticised", filter.critique, set("critique")), checkbox("rewrite refused", filter.refused, set("refused")));
  find("filters").replaceChildren(...parts);
}

function startEpisodes(data) {
  episodes.data = data;
  const e = data.episodes;
  if ((e.tokens || []).some(Boolean)) episodes.filter.tokens = true;
  buildFilters();
  filterEpisodes().then(() => {
    const first = find("episode-list").querySelector("details");
    if (first) first.open = true;
  });
}

// What a run that goes on has written since: an opened episode stays open until the list is filtered anew.
function updateEpisodes(data) {
  const before = episodes.data.episodes.run ? episodes.data.episodes.run.length : 0;
  episodes.data = data;
  const count = data.episodes.run ? data.episodes.run.length : 0;
  if (count === before) return;
  for (const [key] of episodes.chunks) episodes.chunks.delete(key);
  if (!before) startEpisodes(data);
  else if (![...episodes.open.keys()].some((item) => item.open)) filterEpisodes();
  else find("episode-count").textContent = `${count} episodes; ${count - before} new ones since the list was made`;
}
