"""Readers of history: a task as of any moment, and the check that nothing in store and views was changed."""
