"""Maintenance on live application databases: planned, applied, proved and undone."""
