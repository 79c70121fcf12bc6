"""Account operations: changing and erasing an account, and the links sent by email."""
