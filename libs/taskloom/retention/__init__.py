"""Takes old rows out of the read tables. The events stay: nothing here removes one."""
