"""MiniGrid: one engine for the dynamics and the view, one file for each family of tasks.

A cell is one byte (`cells`), a world is a flat array of them (`task`), all tasks share what actions
do (`engine`), the agent sees a part of the world (`view`) in a form of its choice (`observation`,
`render`), and a family says where levels come from and what is success (`doorkey`, `fetch`, ...).
`upstream` leads to the `minigrid` package and back, `oracle` solves levels.
"""
