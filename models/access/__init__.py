"""Access: sign-in, sessions, second factors and the current status of tokens."""
