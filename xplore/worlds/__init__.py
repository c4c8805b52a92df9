"""World samplers, one a file."""
