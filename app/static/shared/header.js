// Who is signed in is asked anew with each load of a page: nothing of it is in the page's own text, which all share. So is which
// checkpoint answers, and again while somebody looks: another one may be promoted, or the model may step aside.
const place = element.querySelector(".person");
const here = place.dataset.here;

const made = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

const signIn = () => made("a", { href: `./sign-in?next=${encodeURIComponent(here)}` }, "sign in");

const signedIn = (user) => {
  const word = (text) => made("span", { className: "word" }, text);
  const name = made("b", { title: `${user.name} (${user.role})` }, user.name);
  const who = made("span", { className: "who" }, word("signed in as"), name, word(`(${user.role})`));
  const out = made("form", { method: "post", action: `./sign-out?next=${encodeURIComponent(here)}` });
  out.append(made("button", { type: "submit" }, "sign out"));
  return [who, out];
};

fetch("./session", { headers: { Accept: "application/json" } })
  .then((answer) => (answer.ok ? answer.json() : { user: null }))
  .catch(() => ({ user: null }))
  .then(({ user }) => place.replaceChildren(...(user ? signedIn(user) : [signIn()])));

const served = element.querySelector(".served");
const SERVED_SECONDS = 10;

const showServed = ({ name, knows, aside }) => {
  const text = `${name} \u2013 ${aside ? `stepped aside: ${aside}` : knows}`;
  if (served.textContent === text) return;
  served.replaceChildren(made("b", {}, name), text.slice(name.length));
  served.classList.toggle("is-aside", Boolean(aside));
  served.title = text;
};

const askServed = () => fetch("./serving", { headers: { Accept: "application/json" } })
  .then((answer) => (answer.ok ? answer.json().then(showServed) : null))
  .catch(() => null);

askServed();
document.addEventListener("descore:serving", askServed);
const timer = setInterval(() => {
  if (!element.isConnected) clearInterval(timer);
  else if (!document.hidden) askServed();
}, SERVED_SECONDS * 1000);
