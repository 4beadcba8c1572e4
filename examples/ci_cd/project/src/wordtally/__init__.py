"""Counts words."""

from wordtally.counting import most_common, tally, words

__all__ = ["most_common", "tally", "words"]
