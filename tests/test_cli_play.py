"""`xplore play` and the text view it draws with."""

from __future__ import annotations

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.cli.glyphs import Glyphs, glyphs_for
from xplore.cli.main import main
from xplore.cli.play import name_key
from xplore.cli.textview import view


@xplore.component
class Corridor:
    """Cells in a row: action 1 goes right, and the last cell pays 1; 6 steps at most."""

    length: int = 4

    def spec(self) -> xplore.EnvSpec:
        observation = xplore.Symbolic((1, self.length, 1), (2,))
        return xplore.EnvSpec("Corridor", observation, xplore.Discrete(2), max_steps=6)

    def sample_level(self, key: Any) -> Any:
        return jnp.int32(0)

    def reset_to_level(self, key: Any, level: Any) -> Any:
        return (level, jnp.int32(0)), self._obs(level)

    def step(self, key: Any, state: Any, action: Any) -> Any:
        place = jnp.clip(state[0] + jnp.where(action == 1, 1, -1), 0, self.length - 1)
        time = state[1] + 1
        there = place == self.length - 1
        step = xplore.TimeStep(
            self._obs(place),
            there.astype(jnp.float32),
            there,
            ~there & (time >= 6),
            {"success": there},
        )
        return (place, time), step

    def privileged(self, state: Any) -> dict[str, jax.Array]:
        return {}

    def _obs(self, place: Any) -> Any:
        return (jnp.arange(self.length) == place).astype(jnp.uint8)[None, :, None]


@xplore.component
class Continuous(Corridor):  # only its action space is another
    def spec(self) -> xplore.EnvSpec:
        return xplore.EnvSpec(
            "Continuous", super().spec().observation, xplore.Box((1,)), max_steps=6
        )


CORRIDOR = f"{__file__}:Corridor"


def test_script_plays_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", CORRIDOR, "--script", "1 0 1 1 1"]) == 0
    out = capsys.readouterr().out
    boards = [line for line in out.splitlines() if set(line) <= {"1", ".", " "} and line]
    assert boards == ["1 . . .", ". 1 . .", "1 . . .", ". 1 . .", ". . 1 .", ". . . 1"]
    assert "step 5  reward 1  return 1  terminated, success" in out


def test_the_next_episode_begins_after_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", CORRIDOR, "--script", "0 0 0 0 0 0 1"]) == 0
    out = capsys.readouterr().out
    assert "step 6  reward 0  return 0  truncated" in out
    assert out.rstrip().splitlines()[-2:] == [". 1 . .", "step 1  reward 0  return 0"]


def test_env_options_reach_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", CORRIDOR, "--env.length", "2", "--script", "1"]) == 0
    assert "success" in capsys.readouterr().out


def test_actions_come_from_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1 1\nr\n1 q 1 1"))
    assert main(["play", CORRIDOR]) == 0
    steps = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in steps] == ["0", "1", "2", "0", "1"]


@pytest.mark.parametrize("word", ["2", "jump", "-1"])
def test_an_unknown_action_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", CORRIDOR, "--script", f"1 {word}"]) == 2
    assert f"{word!r} is no action of Corridor, which has 0 to 1" in capsys.readouterr().err


def test_actions_nobody_can_type_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", f"{__file__}:Continuous"]) == 2
    assert "not Discrete" in capsys.readouterr().err


def test_named_actions_move_the_minigrid_agent(capsys: pytest.CaptureFixture[str]) -> None:
    # In an empty 5x5 room the agent starts in the corner facing right; the goal is opposite.
    script = "forward up right forward forward"
    assert main(["play", "MiniGrid-Empty-5x5-v0", "--script", script]) == 0
    out = capsys.readouterr().out
    assert "★" in out
    assert "▲" in out
    assert "step 5  reward 0.9" in out
    assert "terminated, success" in out


def test_keys_are_named() -> None:
    names = [
        name_key(io.StringIO(typed).read) for typed in ("\x1b[A", "\x1b[C", " ", "\n", "7", "")
    ]
    assert names == ["up", "right", "space", "enter", "7", "q"]


def test_symbols_are_drawn_with_their_names_and_colours() -> None:
    grid = np.zeros((2, 3, 3), np.uint8)
    grid[1, 2] = (4, 1, 2)
    space = xplore.Symbolic((2, 3, 3), (5, 2, 3))
    glyphs = Glyphs({0: "_", (4, 2): "L", 4: "D"}, ("red", "blue"), frozenset({4}), x_first=True)
    text = view(space, grid, glyphs)
    assert text.plain == "_ _\n_ _\n_ L"
    assert [str(s.style) for s in text.spans if str(s.style)] == ["blue"]
    assert view(space, grid).plain == ". . .\n. . 4"


def test_other_observations_are_drawn_by_their_space() -> None:
    one_hot = np.eye(3, dtype=np.float32)
    assert view(xplore.Box((3, 3), low=0.0, high=1.0), one_hot).plain == "@@    \n  @@  \n    @@"
    planes = np.zeros((1, 3, 2), bool)
    planes[0, 0, 1] = planes[0, 1, 0] = True
    assert view(xplore.Box((1, 3, 2), "bool", 0.0, 1.0), planes).plain == "b a ."
    assert view(xplore.Discrete(4), 3).plain == "3 of 4"
    both = xplore.Dict({"a": xplore.Discrete(4), "b": xplore.Box((2,))})
    assert (
        view(both, {"a": 1, "b": np.array([1.5, -2.0], np.float32)}).plain
        == "a: 1 of 4\nb: [ 1.5 -2. ]"
    )


def test_glyphs_belong_to_a_family() -> None:
    assert glyphs_for("MiniGrid-Empty-8x8-v0").actions[2] == "forward"
    assert glyphs_for("DeepSea-10-v0") == Glyphs()
