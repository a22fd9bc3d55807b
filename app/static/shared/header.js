// The head of a page: the person who is signed in, and the checkpoint that answers.
//
// The person is asked for with each load of a page: the page's own text, which all people share, says nothing of it. The
// checkpoint is asked for again and again while the page is in front: another one may be promoted, or the model may be unloaded.

import { addressOf } from "./address.js";
import { watchTimes } from "./dates.js";
import { make } from "./dom.js";

const SERVED_SECONDS = 10;

async function getJson(path) {
  try {
    const answer = await fetch(addressOf(path), { headers: { Accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

function signInLink(here) {
  return Object.assign(make("a", "", "sign in"), { href: addressOf(`sign-in?next=${encodeURIComponent(here)}`) });
}

function signedIn(user, here) {
  const name = Object.assign(make("b", "", user.name), { title: `${user.name} (${user.role})` });
  const who = make("span", "who", make("span", "word", "signed in as"), name, make("span", "word", `(${user.role})`));
  const signOut = make("form", "", Object.assign(make("button", "", "sign out"), { type: "submit" }));
  Object.assign(signOut, { method: "post", action: addressOf(`sign-out?next=${encodeURIComponent(here)}`) });
  return [who, signOut];
}

function showServed(label, { name, knows, aside }) {
  const text = `${name} \u2013 ${aside ? `not loaded now: ${aside}` : knows}`;
  if (label.textContent === text) return;
  label.replaceChildren(make("b", "", name), text.slice(name.length));
  label.classList.toggle("is-aside", Boolean(aside));
  label.title = text;
}

function showNotice(line, text) {
  if (line.textContent === text) return;
  line.textContent = text;
  line.hidden = !text;
}

// Gradio gives all pages of an app one title and no icon.
function nameTab(title) {
  document.title = title;
  const icon = Object.assign(document.createElement("link"), { rel: "icon", type: "image/svg+xml", href: addressOf("favicon.ico") });
  document.head.append(icon);
}

// The content is whatever stands after the head. Its address alone would not do: a page of Gradio's has a base of its own.
function skipTo(element) {
  const content = element.nextElementSibling || element.parentElement.nextElementSibling;
  if (!content) return;
  content.tabIndex = -1;
  content.focus();
  content.scrollIntoView();
}

export function mount({ element }) {
  nameTab(element.querySelector(".page-head").dataset.title);
  element.querySelector(".page-skip").addEventListener("click", (event) => {
    event.preventDefault();
    skipTo(document.getElementById("page-head"));
  });
  watchTimes();
  const person = element.querySelector(".person");
  const { here } = person.dataset;
  getJson("session").then((session) => {
    person.replaceChildren(...(session && session.user ? signedIn(session.user, here) : [signInLink(here)]));
  });

  const label = element.querySelector(".served");
  const askServed = async () => {
    const served = await getJson("serving");
    if (!served) return;
    showServed(label, served);
    showNotice(element.querySelector(".notice"), served.notice);
  };
  askServed();
  document.addEventListener("descore:serving", askServed);
  const timer = setInterval(() => {
    if (!element.isConnected) clearInterval(timer);
    else if (!document.hidden) askServed();
  }, SERVED_SECONDS * 1000);
}
