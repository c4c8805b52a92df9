"""Rows of results: one Parquet file a run, its sidecar beside it, in a folder that only grows.

A *run* is one (task, agent, bonus, worlds) of a suite with its seeds together. Its rows hold what
was measured and nothing else: no clock, no machine, so that the same run gives the same bytes. Its
sidecar (JSON) holds the rest: the config, the environment, the seconds.

The commit rule: the sidecar is written first and the Parquet file last, both whole or not at all,
so a Parquet file always has its sidecar and is what makes a run exist.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xplore.contracts.errors import ResultsError
from xplore.record.files import locked, new_file, sweep, unwritable, writable_folder
from xplore.record.provenance import environment, jsonable

SCHEMA_VERSION = 1
LABELS = ("suite", "task", "agent", "bonus", "worlds")
MEASURED = ("seed", "env_steps", "metric", "value")
COLUMNS = (*LABELS, *MEASURED)

_TEXT = pa.dictionary(pa.int32(), pa.string())
# float64 holds every float32 a device measured exactly, and host-side means without rounding.
_SCHEMA = pa.schema(
    [pa.field(name, _TEXT, nullable=False) for name in LABELS]
    + [
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("env_steps", pa.int64(), nullable=False),
        pa.field("metric", _TEXT, nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
_VERSION_KEY, _RUN_KEY = b"xplore.schema_version", b"xplore.run_id"
_RUN_ID = re.compile(r"[A-Za-z0-9_]{4,64}")
_SLUG = 32  # characters of a label in a file name, which may have 255: five labels and a run_id


class ResultsWarning(UserWarning):
    """A results file that was skipped; the others were read."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """What a run's rows are filed under; ids or names, as they should appear in a table."""

    suite: str
    task: str
    agent: str
    bonus: str
    worlds: str


def long_rows(
    seeds: Sequence[int], env_steps: Sequence[int] | np.ndarray, metrics: Mapping[str, Any]
) -> pd.DataFrame:
    """Turns arrays of metrics into rows (seed, env_steps, metric, value); join several by concat.

    Args:
        seeds: `[S]`.
        env_steps: `[U]`, the env steps at which each column was measured.
        metrics: name to values `[S, U]`, or `[S]` when there is one column.

    >>> long_rows([0, 1], [640], {"eval/return": [0.5, 1.0]})
       seed  env_steps       metric  value
    0     0        640  eval/return    0.5
    1     1        640  eval/return    1.0

    Raises:
        ValueError: no metrics, or values of another shape.
    """
    steps = np.asarray(env_steps, np.int64)
    shape = (len(seeds), len(steps))
    parts = []
    for name, given in metrics.items():
        values = np.asarray(given, np.float64)
        if values.ndim == 1 and shape[1] == 1:
            values = values[:, None]
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}, not (seeds, points) = {shape}")
        parts.append(
            pd.DataFrame(
                {
                    "seed": np.repeat(np.asarray(seeds, np.int64), shape[1]),
                    "env_steps": np.tile(steps, shape[0]),
                    "metric": name,
                    "value": values.ravel(),
                }
            )
        )
    if not parts:
        raise ValueError("no metrics: rows need at least one")
    return pd.concat(parts, ignore_index=True)


def run_path(folder: str | os.PathLike[str], labels: Labels, run_id: str) -> Path:
    """The Parquet file of a run; its sidecar has the same name with `.json`.

    Raises:
        ValueError: a `run_id` that is not 4 to 64 letters, digits and underscores.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"run_id {run_id!r} must be 4 to 64 letters, digits or underscores")
    slugs = [
        re.sub(r"[^A-Za-z0-9.=_-]+", "-", part)[:_SLUG] for part in dataclasses.astuple(labels)
    ]
    # The prefix keeps a label that starts with a dot from hiding the file.
    return Path(folder) / ("run-" + "--".join([*slugs, run_id]) + ".parquet")


def has_run(folder: str | os.PathLike[str], run_id: str) -> bool:
    """Whether the run is there, complete; a run being written or killed in the act is not."""
    return any(Path(folder).glob(f"run-*--{run_id}.parquet"))


def write_run(
    folder: str | os.PathLike[str],
    labels: Labels,
    frame: pd.DataFrame,
    sidecar: Mapping[str, Any],
    *,
    run_id: str,
) -> Path:
    """Adds a run to a folder and returns its Parquet file; what is there is never overwritten.

    Rows are sorted, and all else that could differ between two equal runs is left out, so that
    equal rows make equal bytes. Any number of processes may call this at once: of two that write
    the same `run_id` under the same labels the first is kept, and both get its path.

    Args:
        folder: made if it is not there.
        labels: what the rows are filed under.
        frame: rows with the columns `seed`, `env_steps`, `metric`, `value`; see `long_rows`.
        sidecar: JSON data about the run: its `config`, seconds, FLOPs, `privileged` and so on. The
            keys `schema_version`, `run_id`, `labels` and `environment` are added.
        run_id: names the run for `has_run`: a short hash of its config and seeds.

    Raises:
        ResultsError: the folder cannot be written, or two rows measure the same thing.
    """
    target = run_path(folder, labels, run_id)
    table = _arrow_table(labels, frame, run_id)
    record = {
        **sidecar,
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "labels": dataclasses.asdict(labels),
        "environment": environment(),
    }
    text = json.dumps(jsonable(record), indent=1, sort_keys=True, allow_nan=False) + "\n"
    path = writable_folder(folder)
    try:
        with locked(path) as held:
            if held:
                sweep(path)
            if target.exists():
                return target
            # A sidecar without a Parquet file is from a process killed between the two.
            with new_file(target.with_suffix(".json"), replace=True) as stream:
                stream.write(text.encode())
            with new_file(target) as stream:
                _write_parquet(table, stream)
    except FileExistsError:
        pass
    except OSError as error:
        raise unwritable(path, error) from error
    return target


def _arrow_table(labels: Labels, frame: pd.DataFrame, run_id: str) -> pa.Table:
    if missing := [name for name in MEASURED if name not in frame.columns]:
        raise ValueError(f"rows need the columns {', '.join(MEASURED)}; missing {missing}")
    place = ["seed", "metric", "env_steps"]
    rows = frame.loc[:, list(MEASURED)].astype({"metric": str})
    rows = rows.sort_values(place, kind="stable", ignore_index=True)
    twice = rows.duplicated(place)
    if twice.any():
        first = rows[twice].iloc[0]
        raise ResultsError(
            f"run {run_id}: {first['metric']} of seed {first['seed']} at {first['env_steps']} env"
            " steps is there twice; a run has one row for each"
        )
    value = rows["value"].to_numpy(np.float64, copy=True)
    value[np.isnan(value)] = np.nan  # one of the many bit patterns
    columns: dict[str, Any] = {name: [text] * len(rows) for name, text in labels.__dict__.items()}
    columns |= {
        "seed": rows["seed"].to_numpy(np.int64),
        "env_steps": rows["env_steps"].to_numpy(np.int64),
        "metric": rows["metric"].tolist(),
        "value": value,
    }
    arrays = [
        pa.array(columns[f.name], f.type.value_type if pa.types.is_dictionary(f.type) else f.type)
        for f in _SCHEMA
    ]
    arrays = [
        a.dictionary_encode() if pa.types.is_dictionary(f.type) else a
        for a, f in zip(arrays, _SCHEMA, strict=True)
    ]
    metadata = {_VERSION_KEY: str(SCHEMA_VERSION).encode(), _RUN_KEY: run_id.encode()}
    return pa.Table.from_arrays(arrays, schema=_SCHEMA.with_metadata(metadata))


def _write_parquet(table: pa.Table, stream: Any) -> None:
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": [*LABELS, "metric", "seed", "env_steps"],
        "use_byte_stream_split": ["value"],
        "write_page_checksum": True,  # a flipped bit in a number would otherwise go unseen
    }
    pq.write_table(table, stream, **options)


def _warn(problem: str) -> None:
    warnings.warn(problem, ResultsWarning, stacklevel=3)


def read_rows(
    folder: str | os.PathLike[str],
    *,
    run_ids: Collection[str] | None = None,
    on_problem: Callable[[str], None] = _warn,
) -> pd.DataFrame:
    """Reads all runs of a folder, or those of `run_ids`, into one frame.

    Args:
        folder: written by `write_run`; files of other names are not looked at.
        run_ids: read these runs only; a folder may hold a run of an older config beside its newer.
        on_problem: told, in one line, of each file that could not be read and was skipped; a
            `ResultsWarning` if not given (`problems.append` collects them).

    Returns:
        The columns of `COLUMNS` and `run_id`; text columns are categorical with sorted categories
        (use `observed=True` in `groupby`). Sorted by file name, then seed, metric and env steps.

    Raises:
        ResultsError: no such folder, or a run of another schema version.
    """
    tables = []
    for path in _run_files(folder):
        run_id = _run_id(path)
        if run_ids is not None and run_id not in run_ids:
            continue
        table = _read_parquet(path, on_problem)
        if table is not None:
            ids = pa.array([run_id] * len(table), pa.string()).dictionary_encode()
            tables.append(table.append_column("run_id", ids))
    if not tables:
        empty = [pa.array([], f.type) for f in _SCHEMA]
        tables = [
            pa.Table.from_arrays(empty, schema=_SCHEMA).append_column("run_id", pa.array([], _TEXT))
        ]
    frame = pa.concat_tables(tables).unify_dictionaries().to_pandas()
    for name in (*LABELS, "metric", "run_id"):
        column = frame[name].cat
        frame[name] = column.set_categories(sorted(column.categories))
    return cast("pd.DataFrame", frame)


def read_sidecars(
    folder: str | os.PathLike[str],
    *,
    run_ids: Collection[str] | None = None,
    on_problem: Callable[[str], None] = _warn,
) -> dict[str, dict[str, Any]]:
    """Reads the sidecars of all runs of a folder, or those of `run_ids`: run_id to its content.

    Raises:
        ResultsError: no such folder.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in _run_files(folder):
        run_id, beside = _run_id(path), path.with_suffix(".json")
        if run_ids is not None and run_id not in run_ids:
            continue
        try:
            content = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            on_problem(f"skipped '{beside}', which cannot be read ({_reason(error)})")
            continue
        if isinstance(content, dict):
            found[run_id] = content
        else:
            on_problem(f"skipped '{beside}', which does not describe a run")
    return found


def _run_files(folder: str | os.PathLike[str]) -> list[Path]:
    path = Path(folder)
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise ResultsError(f"no results in '{path}': it {what}; name a folder that runs wrote to")
    return sorted(path.glob("run-*.parquet"))


def _run_id(path: Path) -> str:
    return path.stem.rpartition("--")[2]


def _read_parquet(path: Path, on_problem: Callable[[str], None]) -> pa.Table | None:
    try:
        # Opened here: pyarrow would also read a folder of that name, or guess at partitions.
        with path.open("rb") as stream:
            source = pq.ParquetFile(
                stream, read_dictionary=[*LABELS, "metric"], page_checksum_verification=True
            )
            table = source.read()
    except (OSError, pa.ArrowException) as error:
        on_problem(
            f"skipped '{path}', which is not a complete Parquet file ({_reason(error)});"
            " delete it to have the run made again"
        )
        return None
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version is None:
        on_problem(f"skipped '{path}', which xplore did not write")
        return None
    if version != str(SCHEMA_VERSION).encode():
        raise ResultsError(
            f"'{path}' has rows of schema {version.decode(errors='replace')}, and this xplore reads"
            f" schema {SCHEMA_VERSION}: use the version that wrote it, or another folder"
        )
    try:
        # Cast over `select`: names and types must be ours, whatever the writer's defaults were.
        return table.select(list(COLUMNS)).cast(_SCHEMA)
    except (KeyError, ValueError, pa.ArrowException) as error:
        on_problem(f"skipped '{path}', whose columns are not those of a run ({_reason(error)})")
        return None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__
