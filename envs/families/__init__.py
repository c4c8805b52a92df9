"""Families of procedurally generated levels, to train on some and be scored on others.

A family says where levels come from, how a level is edited, solved exactly and written down
(`world.FamilyTask`); those on MiniGrid's cells share its dynamics and views (`world.GridFamily`).
Shared parts: `boards` (sets of cells as bits of rows, floods), `trees` (spanning trees of a lattice
of rooms), `letters` (levels as text).
"""
