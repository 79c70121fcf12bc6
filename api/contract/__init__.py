"""The contract engine: compiles the OpenAPI document at start-up and runs requests against it."""
