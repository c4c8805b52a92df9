"""Who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400

CONTRACTS = {"contracts"}
PLUG = {"contracts", "parts"}
# Floor -> the floors below it that it may stand on (and itself). `bench.py` and `testing.py` count
# as floors of their own; what is not named here sits on top and may import everything but the top.
MAY_IMPORT = {
    "contracts": set(),
    "parts": CONTRACTS,
    "envs": PLUG,
    "agents": PLUG,
    "bonuses": PLUG,
    "worlds": PLUG,
    "compat": PLUG,
    "loop": PLUG | {"measure"},  # what a program needs is known before it is compiled
    "measure": CONTRACTS,
    "record": CONTRACTS,
}
TOP = {"bench", "benchmarks", "cli", "film", "heatmap", "testing", "xplore"}


def _modules() -> list[tuple[str, Path]]:
    """Dotted name and file of every module of the library, each once."""
    found = []
    for top in ("xplore", "envs", "agents", "benchmarks"):
        for file in sorted((ROOT / top).rglob("*.py")):
            relative = file.relative_to(ROOT)
            if relative.parts[0] == "xplore" and (ROOT / "xplore" / relative.parts[1]).is_symlink():
                continue
            parts = relative.with_suffix("").parts
            parts = parts if parts[0] == "xplore" else ("xplore", *parts)
            found.append((".".join(parts), file))
    return found


def _floor(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1 or parts[1] == "__init__":
        return "xplore"
    return parts[1]


def imported(module: str, source: str) -> set[str]:
    """Names of ours that `source` imports, wherever in the file it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, *filter(None, [node.module])])
            # `from xplore import parts` imports a folder, `from xplore import make` a public name.
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return {n for n in names if n.split(".")[0] == "xplore"}


def violations(module: str, source: str) -> list[str]:
    """What `module` imports that its floor may not stand on."""
    floor = _floor(module)
    if floor in TOP:
        return []
    allowed = MAY_IMPORT[floor] | {floor}
    return sorted(n for n in imported(module, source) if _floor(n) not in allowed)


def test_every_floor_has_a_rule():
    assert {_floor(m) for m, _ in _modules()} <= set(MAY_IMPORT) | TOP


@pytest.mark.parametrize("floor", sorted(MAY_IMPORT))
def test_floor_stands_on_those_below(floor):
    wrong = {
        m: v for m, f in _modules() if _floor(m) == floor if (v := violations(m, f.read_text()))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("xplore.agents.ppo", "from xplore.bonuses.rnd import Rnd"),
        ("xplore.agents.ppo", "import xplore.envs.minigrid"),
        ("xplore.envs.minigrid.door", "from xplore import make"),
        ("xplore.worlds.plr", "def f():\n    from ..loop import train"),
        ("xplore.loop.train", "from xplore.agents import ppo"),
        ("xplore.contracts.types", "from xplore.parts.levels import train_ids"),
        ("xplore.record.rows", "import xplore.parts.levels as levels"),
        ("xplore.bonuses.rnd", "from xplore import testing"),
    ],
)
def test_rule_sees_a_violation(module, source):
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("xplore.agents.ppo", "import jax\nfrom xplore.agents.networks import Mlp"),
        ("xplore.envs.minigrid.door", "from .engine import step\nfrom xplore.parts import levels"),
        ("xplore.bench", "from xplore.agents.ppo import Ppo"),
    ],
)
def test_rule_allows_what_is_below(module, source):
    assert not violations(module, source)


def test_no_file_is_too_long():
    folders = ("xplore", "envs", "agents", "benchmarks", "tests", "docs")
    long = {
        str(f.relative_to(ROOT)): n
        for folder in folders
        for f in (ROOT / folder).rglob("*.py")
        if (n := len(f.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"over {MAX_LINES} lines, so two things in one file: {long}"


def test_every_definition_in_tests_has_its_own_file_name():
    """pytest's reports and `-k` name a file by its last part."""
    names = [f.name for f in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
