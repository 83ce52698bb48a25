// A page that is served while a run trains asks for news, and takes over what has changed.
const live = { version: null, wait: 2000, failed: 0, former: new Map() };

function sayLive(text) {
  find("live-state").textContent = text;
}

function replaceSections(doc) {
  for (const fresh of doc.querySelectorAll("[data-live]")) {
    const section = find(fresh.id);
    const former = live.former.get(fresh.id);
    // What a reader is in the middle of stays, and so does what has not changed.
    if (fresh.innerHTML === former || (section && section.contains(document.activeElement))) continue;
    live.former.set(fresh.id, fresh.innerHTML);
    const own = document.importNode(fresh, true);
    startTables(own);
    if (section) section.replaceWith(own);
    else find(fresh.nextElementSibling.id).before(own);
  }
}

async function refresh() {
  const reply = await fetch("/");
  const doc = new DOMParser().parseFromString(await reply.text(), "text/html");
  const data = readData(doc);
  replaceSections(doc);
  updateCurves(data);
  updateEpisodes(data);
}

async function poll() {
  try {
    const reply = await fetch("/version");
    const { version, said } = await reply.json();
    if (live.version !== null && version !== live.version) await refresh();
    live.version = version;
    live.failed = 0;
    sayLive(said);
  } catch (error) {
    live.failed += 1;
    sayLive("the server does not answer; what is shown stays as it was");
  }
  setTimeout(poll, live.wait * Math.min(16, 2 ** live.failed));
}
