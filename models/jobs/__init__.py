"""Background jobs, as the database knows them."""
