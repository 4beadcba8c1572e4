"""Workflows: a plan of steps as data, and the pure engine that runs it."""
