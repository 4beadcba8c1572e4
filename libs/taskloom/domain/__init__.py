"""The pure core: decides, remembers and follows up. No clock, no I/O, no driver or framework."""
