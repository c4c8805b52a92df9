"""One training loop that knows contracts only."""
