"""Aggregates that are no tasks, one module a kind: few, small, and seldom changed."""
