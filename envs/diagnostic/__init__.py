"""Small tasks that each ask for one thing, most with exact answers."""
