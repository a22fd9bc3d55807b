// The Label page: the model's view beside one's own, what an assisted campaign opens, and feedback on practice pairs.

const MODEL_TIMEOUT = 300_000;  // milliseconds; a large model on a slow machine may need minutes
const percent = (share) => `${Math.round(share * 100)} %`;

function oddsBar(p) {
  const bar = make("div", "label-odds", make("i", "side-a"), make("i", "side-b"));
  bar.style.setProperty("--share-a", percent(p).replace(" ", ""));
  return make("div", "label-odds-line", make("span", "side-a", `A ${percent(p)}`), bar, make("span", "side-b", `B ${percent(1 - p)}`));
}

// Rows are dimensions; for each video one column of each party. Cells in which the parties differ are marked.
function scoreTable(names, parties) {
  if (!names.length) return null;
  const table = make("table", "label-table");
  const tops = SIDES.map((side) => { const cell = make("th", "", badge(side)); cell.colSpan = parties.length; return cell; });
  const heads = SIDES.flatMap((side) => parties.map(([title]) => make("th", `side-${COLOUR[side]}`, title)));
  const rows = names.map((name) => make("tr", "", make("th", "", name), ...SIDES.flatMap((side) => {
    const values = parties.map(([, scores]) => (scores && scores[side] && scores[side][name]) || "\u2013");
    const differs = !values.includes("\u2013") && new Set(values).size > 1;
    return values.map((value) => make("td", differs ? "differs" : "", value));
  })));
  table.append(make("thead", "", make("tr", "", make("th"), ...tops), make("tr", "", make("th"), ...heads)), make("tbody", "", ...rows));
  return make("div", "label-table-box", table);
}

function fact(title, side, text) {
  return make("div", "label-side-value", badge(side), make("span", "label-faint", title), make("b", "", text));
}

const facts = (title, values) => make("div", "label-side-values", ...SIDES.map((side) => fact(title, side, values[side])));

// Parts that the server kept back are simply not there.
function summary({ model, generators }) {
  const parts = [];
  if (model && model.headline) {
    parts.push(make("p", "label-headline", make("b", "", model.headline), " ", make("span", "label-faint", model.reason || "")));
  }
  if (model && typeof model.p_left === "number") parts.push(oddsBar(model.p_left));
  if (model && model.rewards) parts.push(facts("reward", model.rewards));
  if (generators) parts.push(facts("made by", Object.fromEntries(SIDES.map((side) => [side, generators[side] || "not known"]))));
  return parts;
}

function details({ model, own, dimensions: names }) {
  if (!model) return [];
  const thoughts = model.thoughts && make("div", "label-thoughts", ...SIDES.map((side) => (
    make("article", `side-${COLOUR[side]}`, make("h3", "", badge(side), "thought"), make("p", "", model.thoughts[side] || "none"))
  )));
  const parties = [...(own ? [["you", own.sub_scores]] : []), ["model", model.sub_scores]];
  const raw = model.raw_rewards ? `; rewards ${SIDES.map((side) => `${LETTER[side]} ${model.raw_rewards[side]}`).join(", ")}` : "";
  return [model.sub_scores && scoreTable(names, parties), thoughts, make("p", "label-faint", `judged by ${model.checkpoint}${raw}`)].filter(Boolean);
}

const askModel = (token) => call("compare", { turn: token }, { timeout: MODEL_TIMEOUT });

function compare(token) {
  fillFrom("compare", () => askModel(token), (view) => [
    ...(view.own ? [make("p", "", "You: ", make("b", "", inWords(view.own)))] : []), ...summary(view), ...details(view),
  ]);
  setText(find("p", body("compare")), "asking the model; this may take a while");
}

// Assisted campaigns open parts of this during labelling: a line over the videos, and the model's scores in the grid.
async function showOpen(turn) {
  const line = find(".label-open");
  root.classList.toggle("is-assisted", turn.open.length > 0);
  line.hidden = !turn.open.length;
  suggest(null);
  if (!turn.open.length) return;
  line.replaceChildren(make("span", "label-faint", "asking the model"));
  try {
    const view = await askModel(turn.token);
    if (session.turn !== turn) return;
    const more = view.model && view.model.thoughts ? [button("thoughts", "t", () => compare(turn.token))] : [];
    line.replaceChildren(...summary(view), ...more);
    suggest(view.model && view.model.sub_scores);
  } catch (error) {
    if (session.turn === turn) line.replaceChildren(make("span", "", `no view of the model: ${error.message}`));
  }
}

// ---- practice ----------------------------------------------------------------------------------------------------

let goOn = null;

function showFeedback(feedback, then) {
  const { own, gold, right, number, of } = feedback;
  const verdict = `The agreed answer is ${inWords(gold)}${right ? " too." : `; yours was ${inWords(own)}.`}`;
  const parties = [["you", own.sub_scores], ...(gold.sub_scores ? [["agreed", gold.sub_scores]] : [])];
  goOn = () => { goOn = null; then(); };
  find(".label-feedback").replaceChildren(
    make("div", "label-feedback-text", make("h2", right ? "is-right" : "is-wrong", `Practice pair ${number} of ${of}`), make("p", "", verdict),
      gold.explanation ? make("p", "label-example", gold.explanation) : null, button("go on", "enter", () => goOn(), "label-submit")),
    ...[scoreTable(dimensions, parties)].filter(Boolean));
  setState("feedback");
  find(".label-feedback").scrollIntoView({ block: "nearest" });
}

// While feedback is read, the browser already fetches the next pair's videos.
let warm = [];
function warmNext(turn) {
  warm.forEach((video) => video.removeAttribute("src"));
  warm = turn ? SIDES.map((side) => {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, preload: "auto", src: clip(turn[side]).url });
    return video;
  }) : [];
}
