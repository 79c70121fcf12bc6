// Does what the link of a message is for. The secret is behind the # of the address, which no browser sends
// anywhere; it leaves this page in the body of one request to this service.
"use strict";

const find = (id) => document.getElementById(id);
const outcome = find("outcome");

const say = (text, isWrong) => {
  outcome.textContent = text;
  outcome.classList.toggle("wrong", isWrong);
  if (text) {
    outcome.focus();
  }
};

// What went wrong, in the words of the problem document: those about a member, if there are any, say more.
const wordsOf = (problem, answer) => {
  if (answer.status === 429) {
    return `That was tried too often. Wait for ${answer.headers.get("Retry-After")} seconds, and try again.`;
  }
  return problem.errors?.map(({ message }) => message).join(" ") || problem.detail;
};

// Gives null when it is done, else what went wrong and whether the link is to blame.
const send = async (path, body) => {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      return null;
    }
    const problem = await answer.json();
    return { words: wordsOf(problem, answer), isLink: problem.code === "invalid-link" };
  } catch {
    return { words: "The service did not answer. Try again.", isLink: false };
  }
};

// Shows one section. Its form sends what `read` gives, unless that is a complaint, and ends with `done`.
const show = (id, path, read, done) => {
  const section = find(id);
  const form = section.querySelector("form");
  section.hidden = form.hidden = false;
  document.title = `Concord: ${section.querySelector("h1").textContent}`;
  form.onsubmit = async (event) => {
    event.preventDefault();
    const body = read();
    if (typeof body === "string") {
      say(body, true);
      return;
    }
    const button = form.querySelector("button");
    button.disabled = true;
    const wrong = await send(path, body);
    button.disabled = false;
    form.hidden = wrong === null;
    find("again").hidden = id !== "password" || !wrong?.isLink;
    say(wrong?.words ?? done, wrong !== null);
  };
};

const readPassword = (token) => () => {
  const password = find("new-password").value;
  return password === find("same-password").value ? { token, password } : "The two passwords are not the same.";
};

const begin = () => {
  const [purpose, token] = location.hash.slice(1).split("=");
  for (const section of document.querySelectorAll("section, #again")) {
    section.hidden = true;
  }
  say("", false);
  if (token) {
    // Whoever looks at the browser's history later does not find the secret.
    history.replaceState(null, "", location.pathname);
  }
  if (token && (purpose === "verify-email" || purpose === "change-email")) {
    const path = "/v1/auth/email-verification/confirm";
    show("email", path, () => ({ token }), "Thank you. Your email address is confirmed.");
  } else if (token && purpose === "set-password") {
    const path = "/v1/auth/password-reset/confirm";
    show("password", path, readPassword(token), "The password is set. You can sign in with it now.");
  } else {
    const read = () => ({ email: find("address").value });
    const done = "If the address has an account, a message is on its way. Its link is good for an hour.";
    show("forgotten", "/v1/auth/password-reset", read, done);
  }
};

window.addEventListener("hashchange", begin);
begin();
