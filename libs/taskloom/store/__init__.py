"""Events, offsets, open tasks, snapshots and claims in PostgreSQL. ``shard.py`` writes, ``history.py`` reads."""
