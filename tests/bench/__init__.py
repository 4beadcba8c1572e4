"""Measures a whole Taskloom on this machine: ``make bench``."""
