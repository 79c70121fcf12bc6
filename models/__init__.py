"""What Concord knows and the rules it keeps, in Python and SQL. Nothing in here speaks HTTP."""
