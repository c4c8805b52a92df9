"""Where coloured text is printed."""

from __future__ import annotations

import sys

import rich.console


class Console(rich.console.Console):
    """rich's console on stdout: wide where nobody looks, and an ended reader is no failure."""

    def __init__(self) -> None:
        super().__init__(highlight=False, width=None if sys.stdout.isatty() else 160)

    def on_broken_pipe(self) -> None:
        """Leaves it to `main`, where rich would exit with 1."""
        raise BrokenPipeError
