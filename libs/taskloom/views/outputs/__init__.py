"""What attempts wrote, chunk by chunk, stored whole."""
