// The model's view of a pair, in nodes: beside one's own label, in an assisted campaign, and in the feedback on practice pairs.
// Parts that the server kept back are simply not there.

import { make } from "../shared/dom.js";
import { COLOUR, LETTER, SIDES, badge, inWords } from "./markup.js";

// Never a certainty, which no model has.
const percent = (share) => (share >= 0.995 ? "over 99 %" : share < 0.005 ? "under 1 %" : `${Math.round(share * 100)} %`);

function oddsBar(p) {
  const bar = make("div", "label-odds", make("i", "side-a"), make("i", "side-b"));
  bar.style.setProperty("--share-a", `${(Math.min(0.99, Math.max(0.01, p)) * 100).toFixed(2)}%`);
  return make("div", "label-odds-line", make("span", "side-a", `A ${percent(p)}`), bar, make("span", "side-b", `B ${percent(1 - p)}`));
}

// Rows are dimensions; for each video one column of each party. Cells in which the parties differ are marked.
export function scoreTable(names, parties) {
  if (!names.length) return null;
  const table = make("table", "label-table");
  const tops = SIDES.map((side) => {
    const cell = make("th", "", badge(side));
    cell.colSpan = parties.length;
    return cell;
  });
  const heads = SIDES.flatMap((side) => parties.map(([title]) => make("th", `side-${COLOUR[side]}`, title)));
  const rows = names.map((name) => make("tr", "", make("th", "", name), ...SIDES.flatMap((side) => {
    const values = parties.map(([, scores]) => (scores && scores[side] && scores[side][name]) || "\u2013");
    const differs = !values.includes("\u2013") && new Set(values).size > 1;
    return values.map((value) => make("td", differs ? "differs" : "", value));
  })));
  table.append(make("thead", "", make("tr", "", make("th"), ...tops), make("tr", "", make("th"), ...heads)), make("tbody", "", ...rows));
  return make("div", "label-table-box", table);
}

function sideValues(title, values) {
  return make("div", "label-side-values", ...SIDES.map((side) => (
    make("div", "label-side-value", badge(side), make("span", "label-faint", title), make("b", "", values[side]))
  )));
}

export function summary({ model, generators }) {
  const parts = [];
  if (model && model.headline) {
    parts.push(make("p", "label-headline", make("b", "", model.headline), " ", make("span", "label-faint", model.reason || "")));
  }
  if (model && typeof model.p_left === "number") parts.push(oddsBar(model.p_left));
  if (model && model.rewards) parts.push(sideValues("reward", model.rewards), make("p", "label-faint", "SD: standard deviations above the average video"));
  if (generators) parts.push(sideValues("made by", Object.fromEntries(SIDES.map((side) => [side, generators[side] || "not known"]))));
  return parts;
}

function details({ model, own, dimensions }) {
  if (!model) return [];
  const thoughts = model.thoughts && make("div", "label-thoughts", ...SIDES.map((side) => (
    make("article", `side-${COLOUR[side]}`, make("h3", "", badge(side), "thought"), make("p", "", model.thoughts[side] || "none"))
  )));
  const parties = [...(own ? [["you", own.sub_scores]] : []), ["model", model.sub_scores]];
  const raw = model.raw_rewards ? `; rewards ${SIDES.map((side) => `${LETTER[side]} ${model.raw_rewards[side]}`).join(", ")}` : "";
  const judgedBy = make("p", "label-faint", `judged by ${model.checkpoint}${raw}`);
  return [model.sub_scores && scoreTable(dimensions, parties), thoughts, judgedBy].filter(Boolean);
}

export function comparison(view) {
  return [...(view.own ? [make("p", "", "You: ", make("b", "", inWords(view.own)))] : []), ...summary(view), ...details(view)];
}
