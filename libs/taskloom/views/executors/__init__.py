"""Who runs work: the latest heartbeat of every executor."""
