"""Payment providers: verifying what they send, and reading it."""
