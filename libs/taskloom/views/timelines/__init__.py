"""A task's events in the words of the API: timeline entries and stream events. Pure; there is no table of them."""
