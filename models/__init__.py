"""The business rules and data of Concord, in Python and SQL, independent of HTTP."""
