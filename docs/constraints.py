"""Writes the installed versions as a pip constraints file: `python docs/constraints.py FILE`.

Every distribution of the running interpreter counts, except xplore itself and pip, which installs
the others. What FILE names and is not installed here, such as the libraries of an accelerator,
stays as it was.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

LEFT_OUT = {"pip", "xplore-rl"}


def constraints(before: str = "") -> str:
    """One line `name==version` for each distribution installed or in `before`, sorted."""
    lines = (line.strip().partition("==") for line in before.splitlines())
    kept = {name: version for name, _, version in lines if version}
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        # A local label ("+cpu") names a build that other machines cannot install.
        found.setdefault(name, distribution.version.partition("+")[0])
    pins = {**kept, **found}
    return "".join(sorted(f"{n}=={v}\n" for n, v in pins.items() if n not in LEFT_OUT))


def main() -> int:
    """Writes the file that the command line names; returns the exit code."""
    if len(sys.argv) != 2:
        print("usage: python docs/constraints.py FILE", file=sys.stderr)
        return 2
    path = Path(sys.argv[1])
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(constraints(before), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
