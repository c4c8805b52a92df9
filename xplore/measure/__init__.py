"""What is known exactly, and what it costs."""
