"""Agents that look ahead with a tree search, by the environment itself or by a learned model."""
