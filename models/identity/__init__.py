"""Identity: accounts, passwords, tokens and the audit log."""
