"""What happened in each hour, added up from the events as they come: the figures behind reports and statistics."""
