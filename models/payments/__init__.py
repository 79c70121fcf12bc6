"""Payments that providers report."""
