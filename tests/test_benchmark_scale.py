"""Speed over the number of envs: the table of what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xplore.benchmarks import scale

FOLDER = Path(__file__).resolve().parents[1] / "results" / "gpu"


def test_a_step_is_held_against_what_memory_allows():
    line = {"steps_per_second": 5e8, "compile_seconds": 1.0, "bytes_moved": 100}
    measured = {
        "copy_bytes_per_second": 1e11,
        "lines": {"A-v0": {"1024": line}},
        "environment": {"device": {"kind": "a device"}},
    }
    assert "| `A-v0` | 1,024 | 500.0M | 1,000M | 50.0% | 1.0 |" in scale.table(measured)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the results are not part of a package")
def test_stored_table_is_what_was_measured():
    measured = json.loads((FOLDER / "scale.json").read_text(encoding="utf-8"))
    assert scale.table(measured) == (FOLDER / "table.md").read_text(encoding="utf-8")
