// Who is signed in is asked anew with each load of a page: nothing of it is in the page's own text, which all share.
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
