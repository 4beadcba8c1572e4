"""What tests of Taskloom need beside pytest."""
