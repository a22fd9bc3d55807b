// What the model says about a pair: probability bar, sub-score table, both thoughts. Runs once per component, as the body
// of a function that Gradio calls with `element`, `props` and `watch`. `props.value` is the view that
// app/ui/verdict.py builds; every update patches the nodes that are there, so that nothing jumps while text streams:
// text is appended, scroll positions and open tabs stay.

const root = element.querySelector(".verdict");
const find = (selector, from = root) => from.querySelector(selector);
const VIEWS = [["thought", "Thought"], ["json", "JSON"], ["raw", "Raw text"], ["how", "How this was computed"]];
const FOLLOW = 24;  // pixels from the end within which a box follows its text

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// ---- skeleton, built once ----------------------------------------------------------------------------------------

function buildTable(dimensions) {
  const [head, ...rows] = [...root.querySelectorAll(".scores-row")];
  if (head.childElementCount > 1) return;
  [...dimensions, "reward"].forEach((name) => {
    const cell = make("span", name === "reward" ? "scores-name scores-reward-name" : "scores-name", name);
    cell.setAttribute("role", "columnheader");
    if (name === "reward") cell.append(rawToggle());
    head.append(cell);
    rows.forEach((row) => {
      const value = make("span", name === "reward" ? "score-reward" : "score");
      value.setAttribute("role", "cell");
      value.dataset.name = name;
      if (name === "reward") {
        value.append(make("b", "reward-main", "–"), make("small", "reward-raw", ""));
      } else {
        value.append(make("b", "score-text", "·"), make("i", "score-level"), make("small", "score-votes"));
      }
      row.append(value);
    });
  });
}

function rawToggle() {
  const button = make("button", "reward-toggle", "raw");
  button.type = "button";
  button.title = "Show the raw rewards too";
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => button.setAttribute("aria-pressed", String(root.classList.toggle("shows-raw"))));
  return button;
}

function buildThought(article, label) {
  const head = make("header", "thought-head");
  head.append(make("b", "side-badge", label));
  const tabs = make("div", "thought-tabs");
  tabs.setAttribute("role", "group");
  tabs.setAttribute("aria-label", `Views of ${label}'s answer`);
  VIEWS.forEach(([view, title]) => {
    const button = make("button", "", title);
    button.type = "button";
    button.dataset.view = view;
    button.addEventListener("click", () => choose(article, view));
    tabs.append(button);
  });
  head.append(tabs);
  const note = make("p", "thought-note");
  note.hidden = true;
  article.append(head, note);
  VIEWS.forEach(([view]) => {
    const box = make(view === "json" || view === "raw" ? "pre" : "div", `thought-box view-${view}`);
    box.tabIndex = 0;
    box.append(document.createTextNode(""));
    article.append(box);
  });
  choose(article, "thought");
}

function choose(article, view) {
  article.dataset.view = view;
  article.querySelectorAll(".thought-tabs button").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  });
}

// ---- updates -----------------------------------------------------------------------------------------------------

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function streamInto(box, text) {
  const node = box.firstChild;
  const had = node.data;
  if (had === text) return;
  const follow = box.scrollHeight - box.scrollTop - box.clientHeight < FOLLOW;
  if (had && text.startsWith(had)) node.appendData(text.slice(had.length));
  else { node.data = text; box.scrollTop = 0; }
  if (follow && text.length > had.length && had) box.scrollTop = box.scrollHeight;
}

function paintOdds(view) {
  setText(find(".odds-headline"), view.headline);
  setText(find(".odds-reason"), view.reason);
  setText(find(".odds-status"), view.status);
  const known = typeof view.p === "number";
  const percent = known ? Math.round(view.p * 100) : null;
  root.style.setProperty("--share-a", known ? `${(view.p * 100).toFixed(2)}%` : "50%");
  setText(find(".odds-pa"), known ? `A ${percent} %` : "A –");
  setText(find(".odds-pb"), known ? `B ${100 - percent} %` : "B –");
  find(".odds-bar").setAttribute("aria-label", known ? `Probability that A is preferred: ${percent} percent` : "No probability yet");
  root.dataset.odds = known ? "known" : "unknown";
  root.dataset.verdict = view.verdict || "";
}

function paintScores(view) {
  view.sides.forEach((side, index) => {
    const row = find(`[data-row="${index}"]`);
    view.dimensions.forEach((name) => {
      const cell = find(`[data-name="${name}"]`, row);
      const score = side.scores ? side.scores[name] : "";
      setText(find(".score-text", cell), score || "·");
      setText(find(".score-votes", cell), (side.votes && side.votes[name]) || "");
      cell.dataset.score = score || "none";
      cell.classList.toggle("differs", view.differing.includes(name));
      cell.setAttribute("aria-label", `${side.label}, ${name}: ${score || "no score"}${view.differing.includes(name) ? ", differs" : ""}`);
    });
    const reward = find('[data-name="reward"]', row);
    setText(find(".reward-main", reward), side.reward || "–");
    setText(find(".reward-raw", reward), side.raw_reward || "");
  });
}

function paintThought(article, side, phase) {
  streamInto(find(".view-thought", article), side.thought);
  streamInto(find(".view-raw", article), side.raw);
  setText(find(".view-json", article), side.json || (side.finished ? "No JSON could be read from this answer." : ""));
  setText(find(".view-how", article), side.how.join("\n"));
  const note = find(".thought-note", article);
  setText(note, side.note || "");
  note.hidden = !side.note;
  article.classList.toggle("is-streaming", phase === "running" && !side.finished);
  article.dataset.empty = side.thought ? "" : side.placeholder;
}

function show() {
  const view = props.value;
  if (!view || !view.sides) return;
  buildTable(view.dimensions);
  root.dataset.phase = view.phase;
  root.dataset.source = view.source;
  paintOdds(view);
  paintScores(view);
  view.sides.forEach((side, index) => paintThought(find(`[data-index="${index}"]`), side, view.phase));
}

root.querySelectorAll(".thought").forEach((article, index) => buildThought(article, "AB"[index]));
watch("value", show);
show();
