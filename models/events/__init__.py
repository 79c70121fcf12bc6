"""The event feed: recording changes, giving them an order, and reading them."""
