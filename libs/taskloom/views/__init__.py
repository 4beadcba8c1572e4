"""Read models: each folder holds a table's fold, writes and queries. Written by projection, read by gateway and CLI."""
