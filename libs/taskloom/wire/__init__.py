"""Between bytes and domain objects: what crosses a process border, and nothing else."""
