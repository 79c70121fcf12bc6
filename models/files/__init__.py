"""Files: pictures of accounts and products, and where they are stored."""
