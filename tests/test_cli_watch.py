"""`xplore watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xplore import film
from xplore.cli.main import main

WATCH = ["watch", "MiniGrid-Empty-Random-5x5-v0", "--tile-size", "4", "--max-steps", "12", "--out"]
TRAIN = ["--steps", "256", "--num-envs", "8", "--num-steps", "16"]


def _start(path: Path) -> np.ndarray:
    with Image.open(path) as gif:
        return np.asarray(gif.convert("RGB"))


def test_an_episode_is_filmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "episode.gif"
    assert main([*WATCH, str(path), "--level", "3", "--env.max-steps", "4"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "MiniGrid-Empty-Random-5x5-v0, level 3: random, untrained"
    assert out[1] == "  4 steps, return 0, no success"
    assert out[2] == f"film: {path}"
    assert _start(path).shape == (20, 20, 3)


def test_level_and_seed_choose_the_episode(tmp_path: Path) -> None:
    films = {}
    for level, seed in ((0, 0), (0, 1), (1, 0)):
        path = tmp_path / f"{level}-{seed}.gif"
        assert main([*WATCH, str(path), "--level", str(level), "--seed", str(seed)]) == 0
        films[level, seed] = path
    assert np.array_equal(_start(films[0, 0]), _start(films[0, 1]))
    assert films[0, 0].read_bytes() != films[0, 1].read_bytes()
    assert not np.array_equal(_start(films[0, 0]), _start(films[1, 0]))


def test_the_level_is_that_of_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import xplore
    from xplore.cli.play import Game

    seen: list[Any] = []
    monkeypatch.setattr(film, "_write", lambda path, frames, *rest: seen.append(next(frames)))
    assert main([*WATCH, str(tmp_path / "a.gif"), "--level", "5"]) == 0
    env = xplore.make(WATCH[1])
    assert np.array_equal(seen[0], film.render(env, Game(env, 5)._state, 4))


def test_a_policy_is_trained_once_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ["--checkpoints", str(tmp_path / "kept"), "--bonus", "count", "--greedy"]
    first = [*WATCH, str(tmp_path / "a.gif"), *TRAIN, *kept]
    assert main(first) == 0
    said = capsys.readouterr()
    assert "random+count: 256/256 steps" in said.err
    assert "random, after 256 steps" in said.out
    again = [*WATCH, str(tmp_path / "b.gif"), *TRAIN, *kept]
    assert main(again) == 0
    assert capsys.readouterr().err == ""
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    other = [*WATCH, str(tmp_path / "c.gif"), *TRAIN, *kept, "--seed", "1"]
    assert main(other) == 2
    assert "holds the checkpoint of another run" in capsys.readouterr().err


def test_an_untrained_network_is_filmed(tmp_path: Path) -> None:
    assert main([*WATCH, str(tmp_path / "a.gif"), "--agent", "ppo", "--greedy"]) == 0
    assert (tmp_path / "a.gif").is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("watch", "name the env first: `xplore watch ENV ...`"),
        ("watch DeepSea-10-v0 --steps 1e6", "DeepSea-10 cannot be drawn"),
        ("watch MiniGrid-Emty-5x5-v0", "did you mean 'MiniGrid-Empty-5x5-v0'"),
        ("watch MiniGrid-Empty-5x5-v0 --agent pppo", "unknown agent 'pppo'; did you mean 'ppo'"),
        ("watch MiniGrid-Empty-5x5-v0 --level -1", "--level is -1: it must be 0 to 2,147,483,647"),
        ("watch MiniGrid-Empty-5x5-v0 --seed 2147483648", "--seed is 2147483648: it must be"),
        ("watch MiniGrid-Empty-5x5-v0 --tile-size 2", "tile_size is 2: it must be 3 to 64"),
        ("watch MiniGrid-Empty-5x5-v0 --frame-rate 60", "frame_rate is 60: it must be 1 to 50"),
        ("watch MiniGrid-Empty-5x5-v0 --out a.mp4", "'a.mp4' is no name for a film"),
        ("watch MiniGrid-Empty-5x5-v0 --steps -8", "--steps is -8: give 0"),
        ("watch MiniGrid-Empty-5x5-v0 --steps 64", "below one update"),
        ("watch MiniGrid-Empty-5x5-v0 --bonus rnd", "--bonus is for training: give --steps"),
        ("watch MiniGrid-Empty-5x5-v0 --checkpoints a", "--checkpoints is for training"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    args: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("xplore: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
