"""One row a task: what it is, where it stands, what came out."""
