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

window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  plugins: [optionalStartsEmpty],
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // A token lives as long as the page: whoever opens the browser next does not find it.
  persistAuthorization: false,
  // The default validator is a public service.
  validatorUrl: null,
});
