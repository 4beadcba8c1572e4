"""The tries at a task, folded from its events when asked for; there is no table of them."""
