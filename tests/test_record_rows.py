"""Rows: atomic, append-only, safe with two processes, and what is broken is named and skipped."""

import json
import multiprocessing
import os
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest

from xplore.contracts.errors import ResultsError
from xplore.record import provenance
from xplore.record.files import new_file, writable_folder
from xplore.record.rows import (
    COLUMNS,
    Labels,
    ResultsWarning,
    has_run,
    long_rows,
    read_rows,
    read_sidecars,
    run_path,
    write_run,
)

LABELS = Labels("quick", "DeepSea-10-v0", "ppo", "count", "fresh")


def frame(value=0.5):
    metrics = {"episode/return": [[0.0, np.nan], [0.25, value]]}
    return long_rows([0, 1], [100, 200], metrics)


def write(folder, run_id="run_1", labels=LABELS, value=0.5):
    return write_run(folder, labels, frame(value), {"config": {"a": 1}}, run_id=run_id)


def test_rows_come_back(tmp_path):
    path = write(tmp_path)
    assert has_run(tmp_path, "run_1")
    assert not has_run(tmp_path, "run_2")
    rows = read_rows(tmp_path)
    assert list(rows.columns) == [*COLUMNS, "run_id"]
    assert rows.value.tolist()[0::2] == [0.0, 0.25]
    assert np.isnan(rows.value[1])
    assert set(rows.task) == {"DeepSea-10-v0"}
    sidecar = read_sidecars(tmp_path)["run_1"]
    assert sidecar["config"] == {"a": 1}
    assert sidecar["labels"]["bonus"] == "count"
    assert path.with_suffix(".json").exists()


def test_equal_runs_make_equal_bytes_in_any_order(tmp_path):
    one = write(tmp_path / "a")
    shuffled = frame().sample(frac=1.0, random_state=0)
    two = write_run(tmp_path / "b", LABELS, shuffled, {"seconds": 3.0}, run_id="run_1")
    assert one.read_bytes() == two.read_bytes()


def test_what_is_there_is_never_overwritten(tmp_path):
    first = write(tmp_path, value=0.5)
    before = first.read_bytes()
    assert write(tmp_path, value=0.75) == first
    assert first.read_bytes() == before


def test_a_measurement_is_there_once(tmp_path):
    twice = frame().iloc[[0, 0]]
    with pytest.raises(ResultsError, match=r"episode/return of seed 0 at 100 env steps .* twice"):
        write_run(tmp_path, LABELS, twice, {}, run_id="run_1")


def _write_many(folder, start, same):
    for i in range(start, start + 12):
        write(folder, f"run_{0 if same else i:03d}")


@pytest.mark.parametrize("same", [True, False])
def test_two_processes_at_once(tmp_path, same):
    context = multiprocessing.get_context("spawn")
    starts = (0, 12)
    workers = [context.Process(target=_write_many, args=(tmp_path, s, same)) for s in starts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    rows = read_rows(tmp_path)
    assert rows.run_id.nunique() == (1 if same else 24)
    assert len(rows) == 4 * rows.run_id.nunique()
    assert len(read_sidecars(tmp_path)) == rows.run_id.nunique()
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path):
    target = tmp_path / "x"

    def fail():
        with new_file(target) as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty"])
def test_a_corrupt_file_is_named_and_the_rest_kept(tmp_path, damage):
    write(tmp_path, "good")
    bad = write(tmp_path, "bad1")
    content = bad.read_bytes()
    # A flipped bit in the first data page: only its checksum tells.
    flipped = bytearray(content)
    flipped[60] ^= 0xFF
    bad.write_bytes(
        {"cut": content[:-40], "flip": bytes(flipped), "text": b"hello", "empty": b""}[damage]
    )
    problems = []
    rows = read_rows(tmp_path, on_problem=problems.append)
    assert set(rows.run_id) == {"good"}
    (problem,) = problems
    assert str(bad) in problem
    assert "\n" not in problem
    with pytest.warns(ResultsWarning, match="skipped"):
        read_rows(tmp_path)


def test_another_schema_is_refused(tmp_path):
    path = write(tmp_path)
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"xplore.schema_version": b"999"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(ResultsError, match="schema 999, and this xplore reads"):
        read_rows(tmp_path)


def test_a_corrupt_sidecar_is_named(tmp_path):
    path = write(tmp_path).with_suffix(".json")
    path.write_text("{")
    problems = []
    assert read_sidecars(tmp_path, on_problem=problems.append) == {}
    assert str(path) in problems[0]


def test_folders_that_cannot_be_written_or_read(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(ResultsError, match="is a file and not a folder") as error:
            write(folder)
        assert "\n" not in str(error.value)
    with pytest.raises(ResultsError, match="does not exist"):
        read_rows(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match="cannot write results to '/proc"):
        writable_folder("/proc/xplore")


def test_an_empty_folder_has_no_rows(tmp_path):
    rows = read_rows(tmp_path)
    assert len(rows) == 0
    assert list(rows.columns) == [*COLUMNS, "run_id"]


def test_names_of_files_are_safe(tmp_path):
    labels = Labels("s", "gymnax/CartPole-v1", "../../x", "a b:c", "w" * 300)
    path = write(tmp_path, labels=labels)
    assert path.parent == tmp_path
    assert len(path.name) < 255
    assert set(read_rows(tmp_path).agent) == {"../../x"}
    with pytest.raises(ValueError, match="run_id"):
        run_path(tmp_path, LABELS, "../up")


def test_long_rows_checks_shapes():
    with pytest.raises(ValueError, match=r"\(seeds, points\) = \(2, 1\)"):
        long_rows([0, 1], [5], {"a": [1.0]})
    with pytest.raises(ValueError, match="at least one"):
        long_rows([0], [5], {})


def test_provenance_tells_versions_and_no_places(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = json.dumps(provenance.environment())
    for word in (os.path.expanduser("~"), os.getcwd(), os.uname().nodename):
        assert word == "/" or word not in text
    assert '"jax"' in text
    outside = provenance.git_state(tmp_path)
    assert outside["commit"] is None
