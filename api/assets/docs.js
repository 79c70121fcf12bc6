// Starts Swagger UI on the contract of this service. Nothing is asked of any other host.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// Swagger UI would send the example of every parameter. An optional one starts empty instead: an
// example of a cursor or of an entity tag is not one that this service gave out.
const optionalStartsEmpty = () => ({
  statePlugins: {
    spec: {
      wrapSelectors: {
        parameterWithMetaByIdentity: (original) => (state, ...rest) => {
          const parameter = original(state, ...rest);
          if (!parameter || parameter.get("required")) {
            return parameter;
          }
          return parameter.delete("example").delete("examples").deleteIn(["schema", "example"]);
        },
      },
    },
  },
});

// Swagger UI shows the scopes of OAuth flows only, and limits not at all. A reader wants to know both.
const termsOf = (operation) => {
  const scopes = (operation.security ?? []).flatMap(({ bearer = [] }) => bearer);
  const limits = (operation["x-rate-limit"] ?? []).map(
    ({ limit, window, per }) => `${limit} in ${window} seconds for each ${per}`,
  );
  return [
    ...scopes.map((scope) => `Scope: \`${scope}\``),
    ...(limits.length > 0 ? [`Requests: at most ${limits.join(", and ")}`] : []),
  ].map((term) => `\n\n${term}`);
};

const termsAreShown = () => ({
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (original) => (contract) => {
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

window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  plugins: [optionalStartsEmpty, termsAreShown],
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
