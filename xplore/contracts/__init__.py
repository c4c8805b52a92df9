"""What every plug is, and how it is found."""
