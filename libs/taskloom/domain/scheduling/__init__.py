"""Who runs next, where, and why not. In memory, no I/O; the clock comes in as an argument."""
