"""The split of a step's time is of programs that do more and more, up to the whole."""

from __future__ import annotations

from xplore.benchmarks.minigrid_split import PARTS, measure, table


def test_every_part_is_timed_and_in_the_table() -> None:
    line = measure("MiniGrid-Empty-5x5-v0", num_envs=4, repeats=1)
    assert list(line["nanoseconds"]) == list(PARTS)
    assert all(x > 0 for x in line["nanoseconds"].values())
    assert all(x > 0 for x in line["copy_bytes_per_second"].values())
    assert line["bytes_moved"] > 7 * 7 * 3 + 2 * 25
    where = {"device": {"processor": "a processor", "kind": "cpu", "cores": 1}}
    text = table({"lines": {"MiniGrid-Empty-5x5-v0 4": line}, "environment": where})
    assert all(name in text for name in PARTS)
