"""`xplore heatmap`, and what it draws, against the trajectories of the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xplore
from xplore.cli.main import main
from xplore.contracts.errors import ConfigError
from xplore.heatmap import OneLevel, grid_shape, measure_heat, trace_episode

SMALL = ["--steps", "512", "--num-envs", "8", "--num-steps", "16", "--slices", "2"]


def config(env: Any, bonus: str = "count") -> xplore.Config:
    worlds: Any = OneLevel(3)
    return xplore.Config(
        env,
        xplore.make_agent("random"),
        xplore.make_bonus(bonus, key="position"),
        worlds,
        budget_steps=512,
        num_envs=8,
        num_steps=16,
    )


@pytest.fixture(scope="module")
def run() -> Any:
    env = xplore.make("MiniGrid-Empty-5x5-v0")
    return env, config(env), measure_heat(config(env), num_slices=2)


def test_heat_sums_to_the_run(run):
    env, _, (heat, state) = run
    assert grid_shape(env) == heat.visits.shape[1:] == (5, 5)
    assert heat.env_steps == (256, 512)
    assert heat.visits.sum(axis=(1, 2)).tolist() == [256, 256]
    # The outermost cells are walls; where nobody was nothing was paid.
    inside = np.zeros((5, 5), bool)
    inside[1:4, 1:4] = True
    assert not heat.visits[:, ~inside].any()
    assert np.isnan(heat.paid[heat.visits == 0]).all()
    # A count falls with visits: the first slice is paid better, cell by cell.
    both = (heat.visits > 0).all(axis=0)
    assert (heat.paid[0][both] > heat.paid[1][both]).all()
    counts = np.asarray(state.bonus[0][0]).reshape(5, 5)
    starts = counts - heat.visits.sum(axis=0)
    assert starts.sum() == starts[1, 1] > 0  # `count` also counts the starts, in the corner


def test_a_trace_is_an_episode_and_what_it_was_paid(run):
    _, plain, (_, state) = run
    told = trace_episode(plain, state, level=3, seed=1)
    length = len(told.r_int)
    positions = np.asarray(told.states.position)
    assert len(positions) == length + 1 == len(told.reward) + 1
    # It starts where the level does, and pays what the count of the cell says: more where the
    # run had been less.
    np.testing.assert_array_equal(told.states.step_count, np.arange(length + 1))
    assert (told.r_int > 0).all()
    counts = np.asarray(state.bonus[0][0])
    assert told.r_int[0] <= 0.1 / np.sqrt(counts[positions[1]] + 1) + 1e-7


def test_pictures_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {name: tmp_path / name for name in ("a.png", "b.gif", "c.png")}
    outputs = ["--out", str(paths["a.png"]), "--gif", str(paths["b.gif"])]
    outputs += ["--trace", str(paths["c.png"])]
    env = "MiniGrid-Empty-5x5-v0"
    chosen = ["--agent", "random", "--bonuses", "count", "episodic_count"]
    assert main(["heatmap", env, *chosen, *SMALL, *outputs]) == 0
    out = capsys.readouterr().out
    assert "count: 9 of 25 cells entered" in out
    for path in paths.values():
        with Image.open(path) as picture:
            assert min(picture.size) > 200
            assert getattr(picture, "n_frames", 1) == (2 if path.suffix == ".gif" else 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gymnax/CartPole-v1"], "does not tell where the agent is"),
        (["MiniGrid-Empty-5x5-v0", "--slices", "9", *SMALL[:-2]], "between 1 and 4"),
        (["MiniGrid-Empty-5x5-v0", "--out", "a.jpg"], "ends in .png"),
        (["DeepSea-5-v0", "--trace", "a.png"], "cannot be drawn"),
        (["MiniGrid-Empty-5x5-v0", "--bonuses", "cuont"], "did you mean 'count'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["heatmap", *words]) == 2
    assert said in capsys.readouterr().err


def test_maps_of_other_tasks():
    assert grid_shape(xplore.make("DeepSea-5-v0")) == (5, 5)
    assert grid_shape(xplore.make("tabular/DeepSea-5-v0")) == (5, 5)
    moving = config(xplore.make("MiniGrid-Dynamic-Obstacles-5x5-v0"))
    untrained: Any = None
    with pytest.raises(ConfigError, match="draws at random in its steps"):
        trace_episode(moving, untrained)
