"""Sessions come into being by submitting; their numbers are folded from their tasks' events."""
