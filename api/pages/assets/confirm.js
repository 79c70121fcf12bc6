// Handles the links sent by email. The token is in the fragment of the URL, which browsers do not send; it leaves
// this page only in the body of one request to this service.
"use strict";

// The service may be below a path.
const root = new URL("..", document.currentScript.src).pathname;
const find = (id) => document.getElementById(id);
const outcome = find("outcome");

const say = (text, isWrong) => {
  outcome.textContent = text;
  outcome.classList.toggle("wrong", isWrong);
  if (text) {
    outcome.focus();
  }
};

// Returns the messages of a problem document, preferably those about single members, which say more.
const wordsOf = (problem, answer) => {
  if (answer.status === 429) {
    return `Too many attempts. Try again in ${answer.headers.get("Retry-After")} seconds.`;
  }
  return problem.errors?.map(({ message }) => message).join(" ") || problem.detail;
};

// Returns null on success, or else the text and code of the problem.
const send = async (path, body) => {
  try {
    const answer = await fetch(root + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      return null;
    }
    const problem = await answer.json();
    return { words: wordsOf(problem, answer), code: problem.code };
  } catch {
    return { words: "The service did not respond. Try again.", code: null };
  }
};

// Shows one section. Its form sends the result of `read`, unless that is an error text, and then shows `done`.
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
    find("again").hidden = wrong === null || form.dataset.again !== wrong.code;
    say(wrong?.words ?? done, wrong !== null);
  };
};

const readPassword = (token) => () => {
  const password = find("new-password").value;
  return password === find("same-password").value ? { token, password } : "The passwords do not match.";
};

// Mail systems encode the fragment, or append parameters and punctuation to the link.
const readFragment = () => {
  const found = /([a-z-]+)(?:=|%3D)([A-Za-z0-9_-]{43})/i.exec(location.hash);
  return found ? [found[1].toLowerCase(), found[2]] : [];
};

const begin = () => {
  const [purpose, token] = readFragment();
  for (const section of document.querySelectorAll("section, #again")) {
    section.hidden = true;
  }
  say("", false);
  if (token) {
    // The browser's history must not contain the token.
    history.replaceState(null, "", location.pathname);
  }
  if (token && (purpose === "verify-email" || purpose === "change-email")) {
    const path = "v1/auth/email-verification/confirm";
    const read = () => ({ token, current_password: find("current-password").value });
    show("email", path, read, "Thank you. Your email address is confirmed.");
  } else if (token && purpose === "set-password") {
    const path = "v1/auth/password-reset/confirm";
    show("password", path, readPassword(token), "The password is set. You can sign in with it now.");
  } else {
    const read = () => ({ email: find("address").value });
    const done = "If the address has an account, a message is on its way. Its link is valid for an hour.";
    show("forgotten", "v1/auth/password-reset", read, done);
  }
};

window.addEventListener("hashchange", begin);
begin();
