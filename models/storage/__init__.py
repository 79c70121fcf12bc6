"""Storage on SQLite and PostgreSQL: connections, transactions, tables and pagination."""
