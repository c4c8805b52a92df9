"""One table of both comparisons with the `minigrid` package: steps, and distributions of levels.

`python -m xplore.benchmarks.minigrid_table results/minigrid` makes `table.md` of what
`minigrid_parity` and `minigrid_levels` left in that folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tyro


def table(parity: dict[str, Any], levels: dict[str, Any]) -> str:
    """The markdown, a line for each id that either comparison has."""
    lines = [
        "| id | steps compared | episodes | successes | differ | tests of levels | smallest p |"
        " corrected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for id in sorted(parity | levels):
        steps, drawn = parity.get(id), levels.get(id)
        row = [f"`{id}`"]
        row += (
            [f"{steps[x]:,}" for x in ("steps", "episodes", "successes", "mismatches")]
            if steps
            else ["-"] * 4
        )
        row += (
            [str(drawn["tests"]), f"{drawn['p_value']:.1e}", f"{drawn['corrected']:.2f}"]
            if drawn
            else ["-"] * 3
        )
        lines.append("| " + " | ".join(row) + " |")
    num_steps = sum(p["steps"] for p in parity.values())
    differ = sum(p["mismatches"] for p in parity.values())
    tests = sum(x["tests"] for x in levels.values())
    least = min((x["corrected"] for x in levels.values()), default=1.0)
    lines += [
        "",
        f"In all {num_steps:,} steps of {len(parity)} ids, {differ} of which differ; {tests:,}"
        f" tests of the levels of {len(levels)} ids, the smallest p corrected for their number"
        f" {least:.2f}.",
    ]
    return "\n".join(lines) + "\n"


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Writes `table.md` into `folder`."""
    found = []
    for name in ("parity", "levels"):
        path = folder / f"{name}.json"
        found.append(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
    (folder / "table.md").write_text(table(*found), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
