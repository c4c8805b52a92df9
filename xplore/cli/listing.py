"""`xplore list`: what can be named on a command line, with one line on each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from xplore.cli.console import Console
from xplore.cli.options import parse
from xplore.contracts.registry import entries

Kind = Literal["all", "envs", "agents", "bonuses", "worlds", "wrappers", "suites"]
_REGISTRY = {
    "envs": "env",
    "agents": "agent",
    "bonuses": "bonus",
    "worlds": "worlds",
    "wrappers": "wrapper",
}


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """Lists what can be named: environments, agents, bonuses, world samplers, wrappers, suites."""

    kind: Annotated[Kind, tyro.conf.Positional] = "all"
    """what to list"""
    plain: bool = False
    """ids only, one a line, for scripts"""


def list_(args: Sequence[str]) -> None:
    """`xplore list [KIND]`."""
    options = parse(ListOptions, args, prog="xplore list")
    kinds = [*_REGISTRY, "suites"] if options.kind == "all" else [options.kind]
    console = Console()
    for kind in kinds:
        found = _summaries(kind)
        if options.plain:
            print(*found, sep="\n")
            continue
        table = Table(
            title=f"{kind} ({len(found)})", title_justify="left", box=None, show_header=False
        )
        table.add_column(style="bold", no_wrap=True)
        for id, summary in found.items():
            table.add_row(escape(id), escape(summary))
        console.print(table)


def _summaries(kind: str) -> Mapping[str, str]:
    if kind in _REGISTRY:
        return {id: entry.summary for id, entry in entries(_REGISTRY[kind]).items()}
    from xplore.benchmarks.suite import suites

    return {name: suite.description for name, suite in suites().items()}
