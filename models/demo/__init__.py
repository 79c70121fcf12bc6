"""Fictional people, products and orders for trying out the service."""
