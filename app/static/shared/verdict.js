// The model's answer about a pair: probability bar, sub-score table, both thoughts. `props.value` is the view that
// app/ui/verdict.py builds; every update patches the nodes that are there, so that nothing jumps while text streams:
// text is appended, scroll positions and open tabs stay.

import { localText } from "./dates.js";
import { make, saveFile, setText } from "./dom.js";

const VIEWS = [["thought", "Thought"], ["all", "All thoughts"], ["json", "JSON"], ["raw", "Raw text"], ["how", "How this was computed"]];
const SD = "SD: standard deviations above the average video (below it, with a minus)";
const FOLLOW = 24;  // pixels from the end within which a box follows its text

// ---- skeleton, built once ----------------------------------------------------------------------------------------

function buildTable(root, dimensions) {
  const [head, ...rows] = [...root.querySelectorAll(".scores-row")];
  if (head.childElementCount > 1) return;
  [...dimensions, "reward"].forEach((name) => {
    const cell = make("span", name === "reward" ? "scores-name scores-reward-name" : "scores-name", name);
    cell.setAttribute("role", "columnheader");
    if (name === "reward") {
      cell.title = SD;
      cell.append(rawToggle(root));
    }
    head.append(cell);
    rows.forEach((row) => {
      const value = make("span", name === "reward" ? "score-reward" : "score");
      value.setAttribute("role", "cell");
      value.dataset.name = name;
      if (name === "reward") {
        value.append(make("b", "reward-main", "–"), make("small", "reward-raw"));
      } else {
        value.append(make("b", "score-text", "·"), make("i", "score-level"), make("small", "score-votes"));
      }
      row.append(value);
    });
  });
}

function rawToggle(root) {
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
    button.hidden = view === "all";  // until there are several
    button.addEventListener("click", () => chooseView(article, view));
    tabs.append(button);
  });
  head.append(tabs);
  const note = make("p", "thought-note");
  const unfamiliar = make("p", "thought-note thought-unfamiliar");
  note.hidden = unfamiliar.hidden = true;
  article.append(head, unfamiliar, note);
  VIEWS.forEach(([view]) => {
    const box = make(view === "json" || view === "raw" ? "pre" : "div", `thought-box view-${view}`);
    box.tabIndex = 0;
    box.append(document.createTextNode(""));
    article.append(box);
  });
  chooseView(article, "thought");
}

function chooseView(article, view) {
  article.dataset.view = view;
  article.querySelectorAll(".thought-tabs button").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  });
}

// ---- updates -----------------------------------------------------------------------------------------------------

function streamInto(box, text) {
  const node = box.firstChild;
  const before = node.data;
  if (before === text) return;
  const follows = box.scrollHeight - box.scrollTop - box.clientHeight < FOLLOW;
  if (before && text.startsWith(before)) node.appendData(text.slice(before.length));
  else { node.data = text; box.scrollTop = 0; }
  if (follows && text.length > before.length && before) box.scrollTop = box.scrollHeight;
}

function paintOdds(root, view) {
  const find = (selector) => root.querySelector(selector);
  setText(find(".odds-headline"), view.headline);
  setText(find(".odds-reason"), view.reason);
  setText(find(".odds-status"), localText(view.status || ""));
  setText(find(".odds-made"), view.made || "");
  find(".odds-download").hidden = !view.whole;
  const hasOdds = typeof view.p === "number";
  // A full bar would be a certainty, which no model has.
  const share = hasOdds ? Math.min(0.99, Math.max(0.01, view.p)) : 0.5;
  root.style.setProperty("--share-a", `${(share * 100).toFixed(2)}%`);
  setText(find(".odds-pa"), hasOdds ? `A ${view.odds[0]}` : "A –");
  setText(find(".odds-pb"), hasOdds ? `B ${view.odds[1]}` : "B –");
  find(".odds-bar").setAttribute("aria-label", hasOdds ? `Probability that A is preferred: ${view.odds[0]}` : "No probability");
  root.dataset.odds = hasOdds ? "known" : "unknown";
  root.dataset.verdict = view.verdict || "";
}

function paintScores(root, view) {
  view.sides.forEach((side, index) => {
    const row = root.querySelector(`[data-row="${index}"]`);
    view.dimensions.forEach((name) => {
      const cell = row.querySelector(`[data-name="${name}"]`);
      const score = side.scores ? side.scores[name] : "";
      setText(cell.querySelector(".score-text"), score || "·");
      setText(cell.querySelector(".score-votes"), (side.votes && side.votes[name]) || "");
      cell.dataset.score = score || "none";
      cell.classList.toggle("differs", view.differing.includes(name));
      cell.setAttribute("aria-label", `${side.label}, ${name}: ${score || "no score"}${view.differing.includes(name) ? ", differs" : ""}`);
    });
    const reward = row.querySelector('[data-name="reward"]');
    setText(reward.querySelector(".reward-main"), side.reward || "–");
    reward.title = side.reward ? SD : "";
    setText(reward.querySelector(".reward-raw"), side.raw_reward || "");
  });
}

// One line for each of the k thoughts: its reward and place among all, its sub-scores, and the text once it is opened.
function sampleLine(sample, index) {
  const dot = make("i", "sample-dot");
  const line = make("span", "sample-line", dot);
  if (sample.at === null) dot.hidden = true;
  else line.style.setProperty("--at", sample.at);
  const summary = make(
    "summary", "", make("b", "", `${index + 1}`), make("span", "sample-reward", sample.reward), line,
    make("span", "sample-scores", sample.scores || "not readable"),
  );
  const text = make("p", "", sample.text + (sample.truncated ? " [cut off]" : ""));
  return make("details", "sample", summary, text);
}

function paintSamples(article, samples) {
  const tab = article.querySelector('.thought-tabs [data-view="all"]');
  const box = article.querySelector(".view-all");
  const drawn = samples ? JSON.stringify(samples) : "";
  tab.hidden = !samples;
  if ((box.drawn || "") === drawn) return;
  box.drawn = drawn;
  if (article.dataset.view === (samples ? "thought" : "all")) chooseView(article, samples ? "all" : "thought");
  box.replaceChildren(...(samples ? [make("p", "sample-facts", samples.line), ...samples.thoughts.map(sampleLine)] : []));
}

function paintThought(article, side, phase) {
  paintSamples(article, side.samples);
  streamInto(article.querySelector(".view-thought"), side.thought);
  streamInto(article.querySelector(".view-raw"), side.raw);
  setText(article.querySelector(".view-json"), side.json || (side.finished ? "No JSON could be read from this answer." : ""));
  setText(article.querySelector(".view-how"), side.how.join("\n"));
  const unfamiliar = article.querySelector(".thought-unfamiliar");
  setText(unfamiliar, side.familiarity || "");
  unfamiliar.hidden = !side.familiarity;
  const note = article.querySelector(".thought-note:not(.thought-unfamiliar)");
  setText(note, side.note || "");
  note.hidden = !side.note;
  article.classList.toggle("is-streaming", phase === "running" && !side.finished);
  article.dataset.empty = side.thought ? "" : side.placeholder;
}

function paint(root, view) {
  if (!view || !view.sides) return;
  buildTable(root, view.dimensions);
  root.dataset.phase = view.phase;
  root.dataset.source = view.source;
  paintOdds(root, view);
  paintScores(root, view);
  view.sides.forEach((side, index) => paintThought(root.querySelector(`[data-index="${index}"]`), side, view.phase));
}

export function mount({ element, props, watch }) {
  const root = element.querySelector(".verdict");
  root.querySelectorAll(".thought").forEach((article, index) => buildThought(article, "AB"[index]));
  root.querySelector(".odds-download").addEventListener("click", () => {
    saveFile("judgement.json", JSON.stringify(props.value.whole, null, 2), "application/json");
  });
  watch("value", () => paint(root, props.value));
  paint(root, props.value);
}
