// The Train page. It asks the server every few seconds what has changed and replaces those parts alone; what is open, held or
// scrolled in them stays so. Nothing that it sends is trusted there.

const root = element.querySelector(".train"), page = element.querySelector(".train-page"), gate = element.querySelector(".train-gate");
const status = element.querySelector(".train-status"), openRun = element.querySelector(".train-run");
const places = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((place) => [place.dataset.part, place]));
const have = {};
let run = Number(/^#run-(\d+)$/.exec(location.hash)?.[1]) || null;
let timer = null, asking = false, again = false, planTimer = null, typed = false, said = false;

async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body) { options.body = JSON.stringify(body); options.headers["Content-Type"] = "application/json"; }
  const answer = await fetch(`./api/train/${path}`, options);
  const found = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(found.error?.message || "This did not work."), { code: found.error?.code, status: answer.status });
  return found;
}

function say(text, bad = false) {
  status.textContent = text || "";
  status.classList.toggle("is-bad", bad);
  said = Boolean(text);
}

// ---- parts -----------------------------------------------------------------------------------------------------------

function put(name, html) {
  const place = places[name];
  if (!place) return;
  const open = new Map([...place.querySelectorAll("details[data-keep]")].map((one) => [one.dataset.keep, one.open]));
  const scrolled = [...place.querySelectorAll("pre")].map((one) => [one.scrollTop, one.scrollHeight - one.scrollTop - one.clientHeight < 12]);
  const held = place.contains(document.activeElement) ? document.activeElement : null;
  const same = held && (held.dataset.act ? `[data-act="${held.dataset.act}"][data-id="${held.dataset.id || ""}"]`
    : held.dataset.open ? `[data-open="${held.dataset.open}"]` : "");
  place.innerHTML = html;
  for (const one of place.querySelectorAll("details[data-keep]")) if (open.has(one.dataset.keep)) one.open = open.get(one.dataset.keep);
  for (const [index, one] of [...place.querySelectorAll("pre")].entries()) {
    const [top, atEnd] = scrolled[index] || [0, true];
    one.scrollTop = one.dataset.end !== undefined && atEnd ? one.scrollHeight : top;
  }
  for (const one of place.querySelectorAll("time[datetime]")) {
    const at = new Date(one.dateTime);
    one.title = one.textContent;
    one.textContent = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
  if (same) place.querySelector(same)?.focus();
}

function show(found) {
  for (const [name, { html, version }] of Object.entries(found.parts)) {
    if (name === "form" && typed) continue;  // what was typed stays; the form comes anew with the next run
    put(name, html);
    have[name] = version;
    if (name === "form") fitForm();
    if (name === "form" || name === "news") askPlan(0);
  }
  run = found.run;
  openRun.hidden = run === null;
  if (found.figures) { have.figures = found.figures.version; drawCurves(found.figures.of); }
  root.dataset.state = "ready";
  gate.hidden = true;
  page.hidden = false;
}

async function ask() {
  if (asking) { again = true; return; }
  asking = true;
  clearTimeout(timer);
  let seconds = 3;
  try {
    const wanted = location.hash.startsWith("#run-") ? run : null;
    const known = Object.entries(have).map((one) => one.join(":")).join(",");
    const found = await call("GET", `state?run=${wanted || ""}&have=${encodeURIComponent(known)}`);
    if (root.dataset.state === "away") say("");
    show(found);
    seconds = found.seconds;
  } catch (error) {
    if (error.status === 401 || error.status === 403) { shut(error); return; }
    if (root.dataset.state === "ready") root.dataset.state = "away";
    say("The app does not answer just now; this page asks again. A run goes on without it.", true);
  } finally {
    asking = false;
  }
  if (!element.isConnected) return;
  if (again) { again = false; ask(); return; }
  timer = setTimeout(() => (document.hidden ? wait() : ask()), seconds * 1000);
}

function wait() { document.addEventListener("visibilitychange", ask, { once: true }); }

function shut(error) {
  const text = error.status === 401 ? "This page is for leads. " : `${error.message} `;
  const link = Object.assign(document.createElement("a"), { href: "./sign-in?next=/train", textContent: error.status === 401 ? "Sign in" : "Sign in as somebody else" });
  gate.replaceChildren(text, link);
  gate.hidden = false;
  page.hidden = true;
}

// ---- the form --------------------------------------------------------------------------------------------------------

// Only what counts for the chosen stages and start is asked for.
function fitForm() {
  const form = places.form.querySelector("form");
  if (!form) return;
  const { stages = "", start = "" } = fields(places.form);
  for (const one of form.querySelectorAll("[data-stage]")) hold(one, !stages.split(",").includes(one.dataset.stage));
  for (const one of form.querySelectorAll("[data-for='replay_share']")) hold(one, start === "base");
}

function hold(label, hidden) {
  label.hidden = hidden;
  label.querySelector("input").required = !hidden;
}

function askPlan(delay = 350) {
  clearTimeout(planTimer);
  planTimer = setTimeout(async () => {
    if (!places.form.querySelector("form")) return;
    try { put("plan", (await call("POST", "plan", fields(places.form))).plan); } catch (error) { say(error.message, true); }
  }, delay);
}

async function anew() {
  try {
    const found = await call("POST", "form", fields(places.form));
    put("form", found.form);
    put("plan", found.plan);
    fitForm();
  } catch (error) { say(error.message, true); }
}

// ---- acts ------------------------------------------------------------------------------------------------------------

async function act(data, button) {
  if (button) button.disabled = true;
  if (data.act === "promote" || data.act === "roll_back") say("Loading the checkpoint ...");
  try {
    const done = await call("POST", "act", data);
    say(done.said, done.bad);
    if (done.run && !done.bad) open(done.run);
    if (data.act === "retrain" && !done.bad) { typed = false; delete have.form; openRun.scrollIntoView({ block: "nearest" }); }
    document.dispatchEvent(new Event("descore:serving"));
  } catch (error) {
    say(error.message, true);
  } finally {
    if (button) button.disabled = false;
    ask();
  }
}

function open(number) {
  run = number;
  // The whole address: a page of Gradio's has a base of its own, which "#..." alone would lead to.
  history.replaceState(null, "", `${location.pathname}${location.search}#run-${number}`);
  ask();
}

element.addEventListener("click", (event) => {
  const line = event.target.closest("[data-open]"), copy = event.target.closest("[data-copy]"), button = event.target.closest("button[data-act]");
  if (line) { open(Number(line.dataset.open)); return; }
  if (copy) { copyText(copy); return; }
  if (!button || (button.dataset.confirm && !window.confirm(button.dataset.confirm))) return;
  act({ act: button.dataset.act, id: button.dataset.id || "" }, button);
});

element.addEventListener("submit", (event) => {
  event.preventDefault();
  act({ ...fields(places.form), act: "retrain" }, event.target.querySelector("[type='submit']"));
});

element.addEventListener("input", (event) => {
  if (!places.form.contains(event.target)) return;
  typed = true;
  fitForm();
  askPlan();
});

element.addEventListener("change", (event) => { if (event.target.dataset.change === "preset") anew(); });

async function copyText(button) {
  const text = element.querySelector(button.dataset.copy);
  getSelection().selectAllChildren(text);
  try { await navigator.clipboard.writeText(text.textContent); button.textContent = "Copied"; } catch { document.execCommand("copy"); }
}

window.addEventListener("hashchange", () => {
  run = Number(/^#run-(\d+)$/.exec(location.hash)?.[1]) || null;
  ask();
});
ask();
