// An episode as it was read and written: prompt, turns with tool calls and replies, feedback where it belongs.
function block(title, text, kind) {
  return make("div", { class: kind || "block" }, make("h3", { class: "minor" }, title), make("div", { class: "text", tabindex: 0, role: "group", "aria-label": title }, text));
}

function asText(value) {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map((turn) => (turn && typeof turn === "object" ? `${turn.role}: ${turn.content === undefined ? turn.text : turn.content}` : String(turn))).join("\n\n");
  return value === null || value === undefined ? "" : JSON.stringify(value);
}

function makeCalls(calls) {
  return (calls || []).map((call) => block(`calls ${call.name}`, typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments), "call"));
}

function makeFeedback(items) {
  return (items || []).map((item) => {
    const who = [item.annotator || item.source, item.name && item.name !== "score" ? item.name : null].filter(Boolean).join(", ");
    const score = isNumber(item.score) ? `score ${format(item.score, 3)}` : "no score";
    return make("div", { class: "feedback" }, make("h3", { class: "minor" }, `${who}: ${score}`), item.text ? make("div", { class: "text" }, item.text) : null);
  });
}

// Tokens of each policy turn: first and last place, by the number of the turn.
function findTurns(tokens) {
  const found = new Map();
  if (tokens && tokens.turn) tokens.turn.forEach((turn, n) => found.set(turn, [found.has(turn) ? found.get(turn)[0] : n, n + 1]));
  return found;
}

function makeTurns(entry) {
  const { conversation, tokens } = entry.detail;
  const spans = findTurns(tokens);
  let own = 0;
  return conversation.map((turn) => {
    const isPolicy = turn.role === "assistant";
    const place = isPolicy ? own++ : null;
    const span = isPolicy ? spans.get(place) : null;
    const name = isPolicy ? `policy, turn ${place + 1}` : turn.role;
    const text = span ? makeTokens(entry, ...span) : make("div", { class: "text", tabindex: 0, role: "group", "aria-label": name }, turn.text);
    return make("li", { class: `turn ${isPolicy ? "policy" : "reply"}` }, make("h3", { class: "minor" }, name), text, ...makeCalls(turn.calls), ...makeFeedback(turn.feedback));
  });
}

function makeAnswer(entry) {
  const { detail } = entry;
  if (Array.isArray(detail.conversation)) return make("ol", { class: "turns" }, ...makeTurns(entry));
  if (detail.tokens) return make("div", {}, make("h3", { class: "minor" }, "answer"), makeTokens(entry, 0, detail.tokens.text.length));
  return block("answer", asText(detail.response));
}

function describeAuthors(authors) {
  const named = (authors || []).map((one) => {
    const trust = isNumber(one.trust) ? `, trust ${format(one.trust, 2)}` : "";
    return `${one.annotator || one.source}${trust}`;
  });
  return named.length ? `critique by ${named.join("; ")}` : "critique";
}

function makeBeside(detail) {
  const found = [];
  found.push(block(describeAuthors(detail.critique_by), detail.critique || "none"));
  if (detail.teacher_prompt) found.push(block("the hint, as the teacher read it", asText(detail.teacher_prompt)));
  if (detail.revision || detail.revision_status) {
    found.push(block(`rewrite: ${detail.revision_status || "from the file"}`, detail.revision || "none"));
  }
  const skills = (detail.skills || []).map((one) => `${one.id}${isNumber(one.similarity) ? `, similarity ${format(one.similarity, 3)}` : ""}, ${one.shown ? "shown to the policy" : "for the teacher"}`);
  if (skills.length) found.push(block("skills", skills.join("\n")));
  const scores = Object.entries(detail.scores || {}).filter(([, value]) => isNumber(value));
  if (scores.length > 1) found.push(block("scores", scores.map(([name, value]) => `${name} ${format(value, 3)}`).join("\n")));
  return make("div", { class: "beside" }, ...found);
}

function makeEpisode(entry, recolour) {
  const { detail } = entry;
  const views = detail.tokens ? startTokens(entry, recolour) : null;
  const answer = make("div", {}, block("prompt", asText(detail.messages || detail.prompt)), makeAnswer(entry), detail.tokens ? entry.inspector : null);
  const parts = make("div", {}, views, make("div", { class: "sides" }, answer, makeBeside(detail)));
  if (detail.tokens) colourTokens(entry);
  return parts;
}
