"""MiniGrid: one engine for the dynamics and the view, one file for each family of levels.

A cell is one byte (`cells`), a world is a flat array of them (`engine`), the agent sees a 7x7 part
of it (`view`), and a family of tasks is a generator of levels (`empty`, `doorkey`, `fourrooms`,
`multiroom`).
"""
