"""Aggregates that are no tasks, as they stand."""
