"""The stages of a request: match, admit, decode, receive, call, respond."""
