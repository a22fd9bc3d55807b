// The nodes and words of the Label page.
//
// To the annotator the left video is A and the right one B. Which of the pair's videos stands left only the server knows:
// everything sent and received here says "left" and "right".

import { make } from "../shared/dom.js";

export const SIDES = ["left", "right"];
export const LETTER = { left: "A", right: "B" };
export const COLOUR = { left: "a", right: "b" };
const CHOICE_WORDS = { tie: "tie", both_bad: "both bad" };

export function button(text, key, act, className = "") {
  const node = make("button", className, text, key ? " " : null, key ? make("kbd", "", key) : null);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

export const badge = (side) => make("b", `side-badge side-${COLOUR[side]}`, LETTER[side]);

export function inWords(answer) {
  if (answer.action === "skip") return "skipped";
  if (answer.action === "flag") return "flagged as broken";
  return CHOICE_WORDS[answer.choice] || `${LETTER[answer.choice]}${answer.strength ? ` ${answer.strength}` : ""}`;
}
