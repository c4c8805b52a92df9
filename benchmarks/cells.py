"""Cells of a small comparison: what decides their numbers, and how their rows are kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from xplore.contracts.component import to_json
from xplore.loop.config import Config
from xplore.record.files import new_file
from xplore.record.provenance import environment


def fingerprint_of(config: Config) -> str:
    """A hash of what decides the numbers of a run."""
    text = json.dumps(to_json(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def keep_rows(folder: Path, rows: pd.DataFrame) -> None:
    """Writes `rows.parquet` of `folder`, and what made it as `provenance.json`."""
    with new_file(folder / "rows.parquet", replace=True) as stream:
        rows.to_parquet(stream, index=False)
    _write(folder / "provenance.json", json.dumps(environment(), indent=1) + "\n")


def keep_table(folder: Path, text: str) -> None:
    """Writes `table.md` of `folder`."""
    _write(folder / "table.md", text)


def _write(path: Path, text: str) -> None:
    with new_file(path, replace=True) as stream:
        stream.write(text.encode())
