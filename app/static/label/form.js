// The Label page: what is filled in, and how it is shown. `form` is the one truth; `paint` draws it.

const SCORES = ["2", "1", "0", "N/A"];
const SCORE_KEYS = { left: ["q", "w", "e", "r"], right: ["u", "i", "o", "p"] };
const CHOICE_KEYS = ["1", "2", "3", "4", "5", "0"];
const MOST_MARKS = 50;
const overall = find(".label-overall");
const choiceButtons = all("button", overall);
const grid = find(".label-grid");
const note = find(".label-note textarea");
const emptyForm = () => ({ choice: null, strength: null, sub_scores: { left: {}, right: {} }, marks: [], note: "" });

let form = emptyForm();
let dimensions = [];
let cursor = 0;          // index of the dimension that keys fill in
let playhead = { time: 0, a: 0, b: 0 };
let suggested = null;    // the model's scores, where the campaign opens them
let onChange = () => {};  // set by label_session.js

function changed() {
  paint();
  onChange();
}

// ---- filling in --------------------------------------------------------------------------------------------------

function setChoice(index) {
  const { choice, strength = null } = choiceButtons[index].dataset;
  Object.assign(form, { choice, strength });
  changed();
}

function setScore(side, dimension, score) {
  const scores = form.sub_scores[side];
  const was = dimensions.every((name) => SIDES.every((one) => form.sub_scores[one][name]));
  scores[dimension] = score;
  cursor = dimensions.indexOf(dimension);
  // On to the next open one when both videos have their score; a corrected one keeps the cursor where it is.
  if (!was && SIDES.every((one) => form.sub_scores[one][dimension])) moveCursor(1);
  changed();
}

function moveCursor(step) {
  if (!dimensions.length) return;
  cursor = Math.min(dimensions.length - 1, Math.max(0, cursor + step));
  paintGrid();
}

function addMark(side) {
  const time = Math.min(playhead.time, playhead[COLOUR[side]] || playhead.time);
  if (form.marks.length >= MOST_MARKS) return;
  if (form.marks.some((mark) => mark.side === side && Math.abs(mark.time - time) < 0.01)) return;
  form.marks = [...form.marks, { side, time: Number(time.toFixed(3)) }].sort((a, b) => a.time - b.time);
  changed();
}

function removeMark(mark) {
  form.marks = form.marks.filter((one) => one !== mark);
  changed();
}

// What keeps the label from being complete, as a sentence, with the place to go to; null when nothing is missing.
function missing() {
  if (!form.choice) return { text: "The overall preference is missing: 1 to 5, or 0.", place: "overall" };
  for (const [index, name] of dimensions.entries()) {
    const open = SIDES.filter((side) => !form.sub_scores[side][name]);
    if (open.length) {
      const keys = open.map((side) => `${LETTER[side]}: ${SCORE_KEYS[side].join(" ")}`).join(", ");
      return { text: `${name} has no score for ${open.map((side) => LETTER[side]).join(" and ")} yet (${keys}).`, place: index };
    }
  }
  return null;
}

function goTo(place) {
  if (place !== "overall") { cursor = place; paintGrid(); }
  const node = place === "overall" ? overall : grid.children[place + 1];
  node.scrollIntoView({ block: "nearest" });
  node.classList.remove("asks");
  void node.offsetWidth;  // starts the animation anew
  node.classList.add("asks");
}

// ---- showing -----------------------------------------------------------------------------------------------------

function buildGrid(names) {
  dimensions = names;
  cursor = 0;
  grid.hidden = !names.length;
  const head = make("div", "label-row label-row-head");
  SIDES.forEach((side) => {
    head.append(make("span", "label-cells", ...SCORE_KEYS[side].map((key) => make("span", "", make("kbd", "", key)))));
    if (side === "left") head.append(make("span", "label-name", badge("left"), "sub-scores", badge("right")));
  });
  grid.replaceChildren(head, ...names.map(buildRow));
}

function buildRow(name) {
  const row = make("div", "label-row");
  row.dataset.dimension = name;
  SIDES.forEach((side) => {
    const cells = make("span", `label-cells side-${COLOUR[side]}`);
    SCORES.forEach((score, index) => {
      const cell = button(score, null, () => setScore(side, name, score));
      cell.dataset.side = side;
      cell.dataset.score = score;
      cell.title = `${LETTER[side]}, ${name}: ${score} (${SCORE_KEYS[side][index]})`;
      cell.setAttribute("aria-label", `${LETTER[side]}, ${name}: ${score}`);
      cells.append(cell);
    });
    row.append(cells);
    if (side === "left") row.append(button(name, null, () => { cursor = dimensions.indexOf(name); paintGrid(); }, "label-name"));
  });
  return row;
}

function paintGrid() {
  dimensions.forEach((name, index) => {
    const row = grid.children[index + 1];
    row.classList.toggle("is-current", index === cursor);
    all("[data-score]", row).forEach((cell) => {
      const { side, score } = cell.dataset;
      cell.setAttribute("aria-pressed", String(form.sub_scores[side][name] === score));
      cell.classList.toggle("is-suggested", Boolean(suggested) && suggested[side][name] === score);
    });
  });
}

function suggest(scores) {
  suggested = scores;
  paintGrid();
}

function paintMarks() {
  find(".label-chips").replaceChildren(...form.marks.map((mark) => {
    const go = button(`${mark.time.toFixed(2)} s`, null, () => pairRoot.dispatchEvent(new CustomEvent("pair:seek", { detail: mark })));
    go.title = "Go there";
    go.prepend(badge(mark.side));
    const remove = button("\u00d7", null, () => removeMark(mark));
    remove.setAttribute("aria-label", `Remove the mark of ${LETTER[mark.side]} at ${mark.time.toFixed(2)} s`);
    return make("span", `label-chip side-${COLOUR[mark.side]}`, go, remove);
  }));
  const ticks = form.marks.map((mark) => ({ time: mark.time, side: COLOUR[mark.side] }));
  pairRoot.dispatchEvent(new CustomEvent("pair:ticks", { detail: { ticks } }));
}

function paint() {
  choiceButtons.forEach((one) => {
    const chosen = one.dataset.choice === form.choice && (one.dataset.strength || null) === form.strength;
    one.setAttribute("aria-pressed", String(chosen));
  });
  paintGrid();
  paintMarks();
  if (note.value !== form.note) note.value = form.note;
  root.classList.toggle("is-complete", !missing());
}

// Fills the form from a draft or a saved label; what is not there stays open.
function fill(content) {
  const { choice = null, strength = null, sub_scores: scores = {}, marks = [], note: text = "" } = content || {};
  form = { choice, strength, sub_scores: { left: { ...scores.left }, right: { ...scores.right } }, marks: [...marks], note: text };
  const open = dimensions.findIndex((name) => SIDES.some((side) => !form.sub_scores[side][name]));
  cursor = Math.max(0, open);
  paint();
}

const CHOICE_WORDS = { tie: "tie", both_bad: "both bad" };
function inWords(answer) {
  if (answer.action === "skip") return "skipped";
  if (answer.action === "flag") return "flagged as broken";
  return CHOICE_WORDS[answer.choice] || `${LETTER[answer.choice]}${answer.strength ? ` ${answer.strength}` : ""}`;
}

note.addEventListener("input", () => { form.note = note.value; onChange(); });
choiceButtons.forEach((one, index) => one.addEventListener("click", () => setChoice(index)));
all("[data-mark]").forEach((one) => one.addEventListener("click", () => addMark(one.dataset.mark)));
pairRoot.addEventListener("pair:clock", (event) => { playhead = event.detail; });
