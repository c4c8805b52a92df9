"""Exploration bonuses, one method a file."""
