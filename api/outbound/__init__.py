"""Requests that the service itself sends: webhooks."""
