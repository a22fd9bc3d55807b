// A switch that this browser keeps: the model's answer stays covered until there is a vote on the pair. The vote's component says
// by 'descore:vote' {votable, voted} how it stands.

import { listen } from "../shared/dom.js";

const KEY = "descore-vote-first";

export function mount({ element }) {
  const box = element.querySelector("input");
  let vote = { votable: false, voted: false };

  function paint() {
    document.getElementById("judge-page")?.classList.toggle("is-covered", box.checked && vote.votable && !vote.voted);
  }

  try {
    box.checked = localStorage.getItem(KEY) === "1";
  } catch { /* no store: off */ }
  box.addEventListener("change", () => {
    try {
      localStorage.setItem(KEY, box.checked ? "1" : "0");
    } catch { /* it holds until the page is left */ }
    paint();
  });
  listen(element, "descore:vote", (event) => { vote = event.detail; paint(); });
  // The vote may have been drawn before this listened.
  document.dispatchEvent(new CustomEvent("descore:ask-vote"));
  paint();
}
