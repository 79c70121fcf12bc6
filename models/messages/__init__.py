"""The outbox of email messages to account owners."""
