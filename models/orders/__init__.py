"""Orders: placing, paying, shipping, refunding, expiring and listing them."""
