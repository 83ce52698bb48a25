"use strict";
// The page's state is rendered by the server; this script saves what is said, in order, and says so when it is saved.
const state = JSON.parse(document.body.dataset.state);
const find = (id) => document.getElementById(id);
const status = find("status");
const critique = find("critique");
const revision = find("revision");
let turn = state.turns.length > 1 ? state.turns[state.turns.length - 1] : null;
let pending = Promise.resolve(true);
const unsaved = new Map();

const key = () => (turn === null ? "" : String(turn));
const mark = () => (state.marks[key()] ??= { score: null, critique: "", revision: "" });
const original = () => (turn === null ? state.response : state.texts[key()]);

function show() {
  const own = mark();
  const place = state.turns.indexOf(turn);
  find("about").textContent = place < 0 ? (state.turns.length > 1 ? "the whole conversation" : "the answer")
    : `turn ${place + 1} of ${state.turns.length}`;
  for (const button of document.querySelectorAll("[data-score]")) {
    button.setAttribute("aria-checked", String(Number(button.dataset.score) === own.score));
  }
  critique.value = own.critique;
  revision.value = own.revision;
  for (const article of document.querySelectorAll("article.answer")) {
    article.classList.toggle("selected", Number(article.dataset.turn) === turn);
  }
  showMarks();
}

function describe(said) {
  const parts = [said.score === null ? "" : String(said.score), said.critique && "critique", said.revision && "correction"];
  return parts.filter(Boolean).join(" · ");
}

function report(text, isProblem) {
  status.textContent = text;
  status.classList.toggle("problem", Boolean(isProblem));
}

async function post(address, body) {
  const reply = await fetch(address, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.problem ?? found.error?.message ?? `status ${reply.status}`);
  return found;
}

// Saves what the fields say of the selected turn. What is sent is fixed at once, so that keys which follow quickly mean
// the turn that they were pressed on; changes are sent in order, and those that failed are sent again first.
function save() {
  const own = mark();
  own.critique = critique.value.trim();
  own.revision = revision.value.trim() === original().trim() ? "" : revision.value.trim();
  unsaved.set(key(), { turn, ...own });
  pending = pending.then(send);
  return pending;
}

async function send() {
  try {
    for (const [about, said] of [...unsaved]) {
      const found = await post(`/answers/${state.number}`, said);
      if (unsaved.get(about) === said) unsaved.delete(about);
      find("judged").textContent = found.judged;
      if (found.saved) report("saved");
      if (found.saved && find("reading").open) read();
    }
    showMarks();
    return true;
  } catch (error) {
    report(`NOT SAVED: ${error.message}. Your text is still here; Esc tries again.`, true);
    return false;
  }
}

function showMarks() {
  for (const span of document.querySelectorAll("[data-mark]")) {
    const said = state.marks[span.dataset.mark];
    span.textContent = said ? describe(said) : "";
  }
}

function score(value) {
  mark().score = value;
  for (const button of document.querySelectorAll("[data-score]")) {
    button.setAttribute("aria-checked", String(Number(button.dataset.score) === value));
  }
  return save();
}

async function go(address) {
  if (await save()) location.assign(address);
}

function select(place) {
  save();
  turn = place;
  show();
  document.querySelector("article.selected")?.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const order = [null, ...state.turns];
  select(order[(order.indexOf(turn) + by + order.length) % order.length]);
}

async function undo() {
  if (!(await save())) return;
  try {
    const found = await post("/undo", {});
    if (found.number === null) report("nothing to undo");
    else {
      sessionStorage.setItem("said", "undone");
      location.assign(`/answers/${found.number}`);
    }
  } catch (error) {
    report(error.message, true);
  }
}

async function read() {
  const place = find("read");
  try {
    const reply = await fetch(`/answers/${state.number}/reading`);
    place.textContent = await reply.text();
  } catch (error) {
    place.textContent = error.message;
  }
}

function toggle(id) {
  find(id).open = !find(id).open;
}

function press(event) {
  const writing = event.target.matches("textarea, input");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); return go(find("next").href); }
  if (event.key === "Escape") { event.target.blur(); return save(); }
  if (writing || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  const value = Number(event.key);
  if (event.key.trim() && Number.isInteger(value) && value >= state.low && value <= state.high) return score(value);
  if (event.key === "Enter" && event.target.matches("button, a, summary")) return undefined;
  const action = {
    c: () => critique.focus(), e: edit, j: () => step(1), k: () => step(-1), w: () => select(null), x: () => score(null),
    ArrowRight: () => go(find("next").href), Enter: () => go(find("next").href), ArrowLeft: () => go(find("previous").href),
    g: () => go(find("unjudged").href), u: undo, r: () => toggle("reading"), "?": () => toggle("keys"),
  }[event.key];
  if (action) { event.preventDefault(); return action(); }
  return undefined;
}

function edit() {
  if (!revision.value) revision.value = original();
  revision.focus();
  revision.setSelectionRange(revision.value.length, revision.value.length);
}

document.addEventListener("keydown", press);
critique.addEventListener("change", save);
revision.addEventListener("change", save);
for (const button of document.querySelectorAll("[data-score]")) {
  button.addEventListener("click", () => score(Number(button.dataset.score)));
}
for (const article of document.querySelectorAll("article.answer")) {
  article.addEventListener("click", () => select(state.turns.length > 1 ? Number(article.dataset.turn) : null));
}
for (const id of ["next", "previous", "unjudged"]) {
  find(id).addEventListener("click", (event) => { event.preventDefault(); go(find(id).href); });
}
find("clear").addEventListener("click", () => score(null));
find("save").addEventListener("click", () => go(find("next").href));
find("undo").addEventListener("click", undo);
find("reading").addEventListener("toggle", () => {
  localStorage.setItem("reading", find("reading").open ? "open" : "");
  if (find("reading").open) read();
});
if (localStorage.getItem("reading") === "open") find("reading").open = true;
report(sessionStorage.getItem("said") ?? "");
sessionStorage.removeItem("said");
show();
