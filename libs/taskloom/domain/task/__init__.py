"""The task aggregate: commands in, events out, state folded from events."""
