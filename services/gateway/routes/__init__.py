"""One module a resource: what comes in, what is asked of the actions beside, what goes out."""
