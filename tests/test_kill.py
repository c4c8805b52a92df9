"""`kill -9` at any moment loses nothing: the rows are those of a run that was never killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

COMMAND = (
    "run DeepSea-10-v0 --bonus count --steps 131072 --num-envs 16 --num-steps 64 --seeds 2"
    " --eval-levels 4 --checkpoint-every 0"
)


def _start(results: Path) -> subprocess.Popen[bytes]:
    code = "from xplore.cli.main import main; main()"
    words = [sys.executable, "-c", code, *COMMAND.split(), "--results", str(results)]
    return subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def _finish(results: Path) -> None:
    process = _start(results)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr.decode()


def _checkpoints(saved: Path) -> set[str]:
    return {path.name for path in saved.glob("*/*-step-*")}


@pytest.mark.slow
def test_killed_ten_times_the_rows_are_the_same(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _finish(whole)
    rng = random.Random(0)
    saved = killed / "run" / ".checkpoints"
    during_training = 0
    for _ in range(10):
        process = _start(killed)
        # Start-up and compilation take most of a short run: a kill counts once it trains or saves.
        known = _checkpoints(saved)
        while process.poll() is None and not _checkpoints(saved) - known:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.5))
        if process.poll() is None:
            during_training += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert during_training == 10
    _finish(killed)
    (a,), (b,) = (sorted((p / "run").glob("*.parquet")) for p in (whole, killed))
    assert a.name == b.name
    assert pq.read_table(a).equals(pq.read_table(b))
    assert a.read_bytes() == b.read_bytes()
