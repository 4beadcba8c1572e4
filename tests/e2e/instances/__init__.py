"""Two of each service as one system. A package, so that its system ends with its last test."""
