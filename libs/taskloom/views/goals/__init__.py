"""Goals: their plans, steps and traces."""
