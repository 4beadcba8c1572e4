"""What retention took out of the read tables, and how far it may come back."""
