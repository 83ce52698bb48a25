// Elements from data. Text goes in as text nodes only: nothing that a run wrote is ever parsed as HTML.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function find(id) {
  return document.getElementById(id);
}

function label(text, control) {
  return make("label", {}, make("span", {}, text), control);
}

// A checkbox with its label; `changed` is told the new state.
function checkbox(text, checked, changed, colour) {
  const box = make("input", { type: "checkbox" });
  box.checked = checked;
  box.addEventListener("change", () => changed(box.checked));
  const mark = colour ? make("i", { class: "swatch", style: { background: colour } }) : null;
  return make("label", { class: "check" }, box, mark, make("span", {}, text));
}

function select(text, options, value, changed) {
  const box = make("select", { "aria-label": text }, ...options.map(([key, name]) => make("option", { value: key }, name)));
  box.value = value;
  box.addEventListener("change", () => changed(box.value));
  return label(text, box);
}

function group(title, ...children) {
  return make("fieldset", {}, make("legend", {}, title), ...children);
}

function readStyle(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function readData(doc) {
  return JSON.parse(doc.getElementById("data").textContent);
}
