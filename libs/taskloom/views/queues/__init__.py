"""How full and how fast the queues are, counted from the task rows when asked for."""
