"""A suite run, interrupted, extended, and reported. This file is itself a suite for the command."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import xplore
from xplore import bench as library
from xplore.benchmarks import jobs
from xplore.benchmarks.suite import Method, Suite, Task, find_suite, spelt, suites
from xplore.cli.main import main
from xplore.contracts.errors import ConfigError, ResultsError, UnknownIdError
from xplore.loop.train import train
from xplore.record.rows import read_rows


@final
@xplore.component
class Steps:
    """Action 1 pays 1, the other nothing; an episode has `length` steps."""

    length: int = 4

    def spec(self) -> xplore.EnvSpec:
        return xplore.EnvSpec("Steps", xplore.Box((1,)), xplore.Discrete(2), max_steps=self.length)

    def sample_level(self, key: Any) -> Any:
        return jnp.int32(0)

    def reset_to_level(self, key: Any, level: Any) -> Any:
        return level, jnp.zeros(1)

    def step(self, key: Any, state: Any, action: Any) -> Any:
        ended = state + 1 >= self.length
        reward = (action == 1).astype(jnp.float32)
        info = {"success": ended & (action == 1)}
        return state + 1, xplore.TimeStep(jnp.zeros(1), reward, jnp.bool_(False), ended, info)

    def privileged(self, state: Any) -> dict[str, jax.Array]:
        return {}


@final
@xplore.component
class Always:
    """Takes one action always."""

    action: int = 1

    def init(self, key: Any, spec: xplore.RunSpec) -> Any:
        return jnp.zeros(())

    def initial_carry(self, num_envs: int) -> Any:
        return ()

    def act(self, key: Any, state: Any, carry: Any, obs: Any, first: Any) -> Any:
        return carry, jnp.full(first.shape, self.action, jnp.int32), ()

    def update(self, key: Any, state: Any, traj: Any, r_int: Any) -> Any:
        return state + 1, {"updates": state}

    def greedy(self) -> Any:
        return self


SUITE = Suite(
    name="tiny",
    description="for the tests",
    tasks=(
        Task(
            env=f"{__file__}:Steps",
            label="steps",
            budget_steps=2560,
            num_envs=8,
            num_steps=16,
            high=4.0,
            high_reason="exact: 1 a step",
            solved_when=3.5,
        ),
    ),
    methods=(
        Method("always", agent=f"{__file__}:Always"),
        Method("always, fixed", agent=f"{__file__}:Always", worlds="fixed"),
        Method("random", agent="random"),
    ),
    seeds=3,
    eval_levels=8,
)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The seeds of every call of `train`."""
    calls: list[tuple[int, ...]] = []
    real = train

    def counted(config: Any, *, seeds: Any, **options: Any) -> Any:
        calls.append(tuple(seeds))
        return real(config, seeds=seeds, **options)

    monkeypatch.setattr("xplore.benchmarks.jobs.train", counted)
    return calls


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the suite has been run."""
    folder = tmp_path_factory.mktemp("finished")
    library.bench(SUITE, folder / "tiny")
    return folder


def test_what_is_done_is_not_run_again(
    tmp_path: Path, trained: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", __file__, "--results", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr()
    assert trained == [(0, 1, 2)] * 3
    assert first.err.count("s to compile") == 3
    assert main(command) == 0
    again = capsys.readouterr()
    assert len(trained) == 3
    assert again.err.count("there already") == 3
    assert again.out == first.out
    # More seeds: only those that are missing.
    assert main([*command, "--seeds", "5", "--only", "steps/random"]) == 0
    assert trained[3:] == [(3, 4)]
    rows = read_rows(tmp_path / "tiny")
    assert sorted(rows["seed"].unique()) == [0, 1, 2, 3, 4]


def test_interrupted_between_and_inside_jobs_it_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[str] = []

    @contextlib.contextmanager
    def interrupting(job: jobs.Job) -> Iterator[Any]:
        starts.append(job.labels.worlds)

        def callback(progress: Any) -> None:
            if len(starts) == 2 and progress.env_steps < progress.budget_steps:
                os.kill(os.getpid(), signal.SIGINT)

        yield callback

    folder = tmp_path / "tiny"
    with pytest.raises(KeyboardInterrupt):
        library.bench(SUITE, folder, show_progress=interrupting)
    assert len(starts) == 2
    assert len(list(folder.glob("run-*.parquet"))) == 1
    assert list((folder / ".checkpoints").iterdir())
    seen: list[int] = []

    @contextlib.contextmanager
    def watching(job: jobs.Job) -> Iterator[Any]:
        yield lambda progress: seen.append(progress.env_steps)

    library.bench(SUITE, folder, show_progress=watching)
    assert seen[0] > 128  # the second job went on from its checkpoint
    assert not list((folder / ".checkpoints").iterdir())
    pd.testing.assert_frame_equal(read_rows(folder), read_rows(finished / "tiny"))


def test_a_job_of_another_process_is_left_to_it(tmp_path: Path) -> None:
    job = library.jobs_of(SUITE)[0]
    claimed: list[str] = []

    def event(told: library.Event) -> None:
        claimed.append(told.kind)
        if told.kind == "busy":
            os.close(handle)  # the other process ends without a result

    saved = tmp_path / ".checkpoints" / jobs.run_id_of(job, range(3))
    saved.mkdir(parents=True)
    handle = os.open(saved, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    suite = dataclasses.replace(
        SUITE, methods=SUITE.methods[:1], tasks=(dataclasses.replace(SUITE.tasks[0], low=0.0),)
    )
    library.bench(suite, tmp_path, on_event=event)
    assert claimed == ["start", "busy", "start", "done"]


def test_every_table_comes_from_the_rows(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(finished)]
    assert main(["bench", __file__, *results]) == 0
    printed = capsys.readouterr().out
    written = (finished / "tiny" / "table.md").read_text()
    assert written in printed
    assert main(["table", __file__, *results]) == 0
    assert capsys.readouterr().out == written
    for form, of, name in (("latex", "both", "table.tex"), ("csv", "tasks", "tasks.csv"),
                           ("csv", "methods", "methods.csv")):  # fmt: skip
        assert main(["table", __file__, *results, "--format", form, "--of", of]) == 0
        assert capsys.readouterr().out == (finished / "tiny" / name).read_text()
    assert "always, fixed" in written
    before = {p.name: p.read_bytes() for p in (finished / "tiny").glob("*.png")}
    assert set(before) == {"curves.png", "profiles.png", "intervals.png"}
    assert main(["plot", __file__, *results, "--out", str(finished / "figures")]) == 0
    assert {p.name for p in (finished / "figures").iterdir()} == set(before)


def test_scores_lie_between_the_measured_random_and_the_optimal(finished: Path) -> None:
    made = library.report(SUITE, finished / "tiny")
    rows = made.rows[(made.rows["agent"] == "random") & (made.rows["metric"] == "eval/return")]
    assert made.suite.tasks[0].low == pytest.approx(rows["value"].mean())
    assert 1.0 < made.suite.tasks[0].low < 3.0  # 4 steps, each paid with probability 1/2
    always, fixed, random = made.summary.tasks
    assert always.normalised.tolist() == fixed.normalised.tolist() == [1.0, 1.0, 1.0]
    assert random.normalised.mean() == pytest.approx(0.0, abs=0.1)
    assert (always.solved, random.solved) == (3, 0)


def test_what_is_measured(finished: Path) -> None:
    rows = read_rows(finished / "tiny")
    mine = rows[rows["agent"] == "test_bench.py:Always"]
    fresh, fixed = mine[mine["worlds"] == "fresh"], mine[mine["worlds"] == "fixed"]
    last = fresh[fresh["metric"] == "eval/return"]
    assert last["env_steps"].tolist() == [2560] * 3
    assert last["value"].tolist() == [4.0] * 3
    curve = fresh[(fresh["metric"] == "episode/return") & (fresh["seed"] == 0)]
    assert curve["env_steps"].tolist() == list(range(128, 2561, 128))
    assert set(curve["value"]) == {4.0}
    assert set(fixed["metric"]) - set(fresh["metric"]) == {
        f"eval_train/{name}" for name in ("return", "return_worst_tenth", "success", "length")
    }


def test_a_change_of_anything_that_matters_is_another_job(tmp_path: Path) -> None:
    source = Path(__file__).read_text()
    file = tmp_path / "mine.py"
    file.write_text(source)
    suite = dataclasses.replace(
        SUITE, methods=(Method("mine", agent=f"{file}:Always"), SUITE.methods[-1])
    )
    job = library.jobs_of(suite)[0]
    assert job.fingerprint == library.jobs_of(suite)[0].fingerprint
    file.write_text(source + "\n# another line\n")
    others = [library.jobs_of(suite)[0]]
    task = SUITE.tasks[0]
    for change in ({"budget_steps": 5120}, {"num_steps": 32}, {"options": {"length": 5}}):
        changed = dataclasses.replace(suite, tasks=(dataclasses.replace(task, **change),))
        others.append(library.jobs_of(changed)[0])
    others.append(library.jobs_of(dataclasses.replace(suite, eval_levels=9))[0])
    assert len({job.fingerprint, *(o.fingerprint for o in others)}) == 6


def test_rows_of_other_settings_do_not_count(finished: Path) -> None:
    changed = dataclasses.replace(SUITE, eval_levels=9)
    with pytest.raises(ResultsError, match="run `xplore bench tiny` first"):
        library.report(changed, finished / "tiny")


def test_only_keeps_the_random_agent_that_is_the_zero() -> None:
    kept = [job.labels.worlds + job.labels.agent for job in library.jobs_of(SUITE, "FIXED")]
    assert kept == ["fixedtest_bench.py:Always", "freshrandom"]
    known = dataclasses.replace(SUITE, tasks=(dataclasses.replace(SUITE.tasks[0], low=0.0),))
    assert len(library.jobs_of(known, "steps/*fixed")) == 1


def test_neighbouring_updates_are_joined_by_what_they_mean() -> None:
    nan = float("nan")
    metrics = {
        "episode/count": np.array([[1, 3, 0, 0]], np.float32),
        "episode/return": np.array([[1.0, 5.0, nan, nan]], np.float32),
        "episode/total_return": np.array([[1.0, 16.0, 16.0, 16.0]], np.float32),
        "oracle/coverage": np.array([[0.1, 0.3, 0.3, 0.5]], np.float32),
        "oracle/regret": np.array([[2.0, 6.0, nan, nan]], np.float32),
        "agent/loss": np.array([[1.0, 5.0, 2.0, nan]], np.float32),
    }
    steps, joined = jobs.thinned(np.array([10, 20, 30, 35]), metrics, max_points=2)
    assert steps.tolist() == [20, 35]
    assert joined["episode/count"].tolist() == [[4.0, 0.0]]
    np.testing.assert_array_equal(joined["episode/return"], [[4.0, nan]])  # (1*1 + 3*5) / 4
    np.testing.assert_array_equal(joined["oracle/regret"], [[5.0, nan]])
    np.testing.assert_array_equal(joined["episode/total_return"], [[16.0, 16.0]])
    np.testing.assert_allclose(joined["oracle/coverage"], [[0.3, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(joined["agent/loss"], [[3.0, 2.0]])
    steps, joined = jobs.thinned(np.array([10, 20, 30, 35]), metrics, max_points=9)
    assert steps.tolist() == [10, 20, 30, 35]
    np.testing.assert_array_equal(joined["agent/loss"], metrics["agent/loss"])


def test_suites_are_found_by_name_or_file(tmp_path: Path) -> None:
    assert find_suite("quick") is suites()["quick"]
    assert find_suite(__file__).name == "tiny"
    with pytest.raises(UnknownIdError, match="did you mean 'quick'"):
        find_suite("quik")
    (tmp_path / "empty.py").write_text("SUITE = 3\n")
    with pytest.raises(UnknownIdError, match="no variable SUITE that is a Suite"):
        find_suite(str(tmp_path / "empty.py"))
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(ConfigError, match="cannot be imported: ModuleNotFoundError"):
        find_suite(str(tmp_path / "broken.py"))


def test_every_suite_of_the_library_can_be_made() -> None:
    for suite in suites().values():
        assert len(library.jobs_of(suite)) == len(suite.tasks) * len(suite.methods)
        assert all(task.high_reason for task in suite.tasks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": (Method("a"), Method("a"))}, "two methods are labelled 'a'"),
        ({"tasks": ()}, "has no tasks"),
        ({"methods": (Method("a"),)}, "no method is the `random` agent"),
    ],
)
def test_a_suite_that_cannot_be_scored_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SUITE, **change)


def test_names_of_plugs() -> None:
    assert spelt("rnd", {"b": 2, "a": 1}) == "rnd(a=1,b=2)"
    assert Method("m", bonus="/some/where/mine.py:novelty").names["bonus"] == "mine.py:novelty"
