// Starts Swagger UI on the contract of this service. Nothing is asked of any other host.
"use strict";

// The service may be below a path.
const root = new URL("..", document.currentScript.src).pathname;

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// A key of this page for each operation: a second try repeats the first, and a new page is a new intention.
const keys = {};
const keyOf = (operation) =>
  (keys[operation] ??= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join(""));

// Swagger UI would send the example of every parameter. An optional one starts empty instead, or with its
// default: an example of a cursor or of an entity tag is not one that this service gave out.
const optionalStartsEmpty = () => ({
  statePlugins: {
    spec: {
      wrapSelectors: {
        // Swagger UI hands the state to the original by itself.
        parameterWithMetaByIdentity: (original) => (_state, operation, declared) => {
          const parameter = original(operation, declared);
          if (parameter?.get("name") === "Idempotency-Key") {
            return parameter.set("example", keyOf(operation));
          }
          if (!parameter || parameter.get("required")) {
            return parameter;
          }
          return parameter.delete("example").delete("examples").deleteIn(["schema", "example"]);
        },
      },
    },
  },
});

// Swagger UI shows the scopes of OAuth flows only, and limits, required sessions and scopes of members not at all.
const termsOf = (operation) => {
  const security = operation.security ?? [];
  const scopes = security.flatMap(({ bearer = [] }) => bearer);
  const optional = security.some((one) => !one.bearer) ? ", for a token that is sent; none is needed" : "";
  const limits = (operation["x-rate-limit"] ?? []).map(
    ({ limit, window, per }) => `${limit} in ${window} seconds for each ${per}`,
  );
  const sessions = (operation["x-requires-session"] ?? []).map(
    ({ "when-given": members = ["any change"], "max-age": age }) =>
      `${members.join(", ")}${age ? `, signed in within ${age} seconds` : ""}`,
  );
  const further = (operation["x-requires-scopes"] ?? []).flatMap(({ "when-given": members, scopes: required }) =>
    required.map((scope) => `Scope: \`${scope}\`, for ${members.join(", ")}`),
  );
  return [
    ...scopes.map((scope) => `Scope: \`${scope}\`${optional}`),
    ...further,
    ...(sessions.length > 0 ? [`Session required, not an API key: ${sessions.join("; ")}`] : []),
    ...(limits.length > 0 ? [`Requests: at most ${limits.join(", and ")}`] : []),
  ].map((term) => `\n\n${term}`);
};

const termsAreShown = () => ({
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (original) => (contract) => {
          // The page may be open under another address than the public one, to which it may not connect.
          contract.servers = contract.servers.filter(({ url }) => new URL(url, location).origin === location.origin);
          for (const operation of Object.values(contract.paths).flatMap(Object.values)) {
            if (operation.operationId) {
              operation.description += termsOf(operation).join("");
            }
          }
          return original(contract);
        },
      },
    },
  },
});

// A response that is an error starts as one line, with a link to the page of each kind.
const errorsAreFolded = ({ React: { createElement, Fragment, useState } }) => ({
  wrapComponents: {
    response: (Original) => (props) => {
      const [open, setOpen] = useState(false);
      const kinds = props.response.getIn(["content", "application/problem+json", "examples"]);
      if (!kinds) {
        return createElement(Original, props);
      }
      const links = [...kinds.keys()].map((kind) =>
        createElement("a", { key: kind, href: `${root}problems/${kind}` }, kind),
      );
      const toggle = { type: "button", className: "unfold", "aria-expanded": open, onClick: () => setOpen(!open) };
      const line = createElement(
        "tr",
        { className: "response folded" },
        createElement("td", { className: "response-col_status" }, props.code),
        createElement("td", { className: "response-col_description" }, ...links),
        createElement("td", null, createElement("button", toggle, open ? "Less" : "More")),
      );
      return createElement(Fragment, null, line, open && createElement(Original, props));
    },
  },
});

window.SwaggerUIBundle({
  url: `${root}openapi.json`,
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  plugins: [optionalStartsEmpty, termsAreShown, errorsAreFolded],
  deepLinking: true,
  // The schemas are many: their list starts closed, below the operations.
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // A token lives as long as the page: whoever opens the browser next does not find it.
  persistAuthorization: false,
  // The default validator is a public service.
  validatorUrl: null,
});
