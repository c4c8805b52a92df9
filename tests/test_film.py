"""Pictures of states, films of episodes, and the gallery that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence

import xplore
from xplore import film as module
from xplore.contracts.errors import ConfigError, ResultsError
from xplore.envs.minigrid.render import picture
from xplore.film import film, pictures, record, render

DOCS = Path(__file__).resolve().parents[1] / "docs"
EMPTY = "MiniGrid-Empty-5x5-v0"
# The goal of an empty 5x5 room is opposite to the agent, which faces right.
WAY = (2, 2, 1, 2, 2)


@xplore.component
class Scripted:
    """Does what it was told, then nothing that matters; has only what acting needs."""

    actions: tuple[int, ...] = WAY

    def initial_carry(self, num_envs: int) -> Any:
        return jnp.zeros(num_envs, jnp.int32)

    def act(self, key: Any, state: Any, carry: Any, obs: Any, first: Any) -> Any:
        carry = jnp.where(first, 0, carry)
        return carry + 1, jnp.asarray([*self.actions, 6])[carry.clip(max=len(self.actions))], ()


SCRIPT: Any = Scripted()


def _film(path: Path, agent: Any = SCRIPT, env: str = EMPTY, **options: Any) -> Any:
    options = {"key": jax.random.key(0), "tile_size": 4, **options}
    return film(xplore.make(env), agent, (), 0, path, **options)


def _shown(path: Path) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(path) as gif:
        frames = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(gif)
        ]
    return [f for f, _ in frames], [d for _, d in frames]


def test_a_picture_of_a_state_under_jit() -> None:
    env: Any = xplore.make("MiniGrid-DoorKey-5x5-v0")
    state, _ = env.reset_to_level(jax.random.key(0), env.sample_level(jax.random.key(1)))
    made = jax.jit(lambda state: render(env, state, 8))(state)
    assert (made.shape, made.dtype) == ((40, 40, 3), jnp.uint8)
    assert np.array_equal(made, picture((5, 5), state, 8))
    assert jax.eval_shape(lambda state: render(env, state), state).shape == (160, 160, 3)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="DeepSea-10 cannot be drawn"):
        render(xplore.make("DeepSea-10-v0"), ())
    for size in (2, 65):
        with pytest.raises(ConfigError, match=f"tile_size is {size}: it must be 3 to 64"):
            render(xplore.make(EMPTY), (), size)


def test_an_episode_is_recorded_to_its_end():
    env, key = xplore.make(EMPTY), jax.random.key(0)
    whole = jax.jit(lambda level: record(env, SCRIPT, (), level, key=key, max_steps=8))(
        jnp.uint32(0)
    )
    assert (int(whole.length), bool(whole.success), bool(whole.ended)) == (5, True, True)
    assert float(whole.total) == pytest.approx(1 - 0.9 * 5 / 100)
    # Cells of a room of 5x5, row by row; after the end the last state is repeated.
    assert whole.states.position.tolist() == [6, 7, 8, 8, 13, 18, 18, 18, 18]
    assert whole.states.step_count.tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 5]
    cut = record(env, SCRIPT, (), jnp.uint32(0), key=key, max_steps=3)
    assert (int(cut.length), bool(cut.success), bool(cut.ended)) == (3, False, False)
    assert len(cut.states.position) == 4


def test_a_film_shows_every_state_to_the_pixel(tmp_path):
    path = tmp_path / "new" / "episode.gif"
    episode = _film(path, frame_rate=10)
    frames, durations = _shown(path)
    expected = list(pictures(xplore.make(EMPTY), episode.states, 4))
    assert len(frames) == len(expected) == episode.length + 1 == 6
    assert all(np.array_equal(a, b) for a, b in zip(frames, expected, strict=True))
    assert durations == [100] * 5 + [1500]
    assert [p.name for p in path.parent.iterdir()] == ["episode.gif"]


def test_steps_that_change_nothing_take_their_time(tmp_path):
    # 20 pictures, more than are made at once; turned back and forth, then nothing is done.
    episode = _film(tmp_path / "a.gif", Scripted((0, 1)), max_steps=19)
    _, durations = _shown(tmp_path / "a.gif")
    assert (int(episode.length), bool(episode.ended)) == (19, False)
    assert len(durations) == 3
    assert sum(durations) == pytest.approx(19 * 125 + 1500, abs=10 * 19)


def test_a_trained_agent_is_filmed_and_the_same_twice(tmp_path):
    env, agent = xplore.make(EMPTY), xplore.make_agent("random")
    config = xplore.Config(
        env=env,
        agent=agent,
        bonus=xplore.make_bonus("none"),
        worlds=xplore.make_world_sampler("fresh"),
        budget_steps=64,
        num_envs=4,
        num_steps=8,
    )
    state = jax.tree.map(lambda x: x[0], xplore.train(config).state.agent)
    for name in ("a.gif", "b.gif"):
        film(env, agent, state, 7, tmp_path / name, key=jax.random.key(3), max_steps=9, tile_size=4)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_a_film_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "episode.gif"
    path.write_bytes(b"before")

    def broken(*args: Any) -> Iterator[np.ndarray]:
        yield np.zeros((4, 4, 3), np.uint8)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "pictures", broken)
    with pytest.raises(ResultsError, match="No space left on device"):
        _film(path)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["episode.gif"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "DeepSea-10-v0"}, "DeepSea-10 cannot be drawn"),
        ({"tile_size": 1}, "tile_size is 1"),
        ({"max_steps": 0}, "max_steps is 0: a film needs at least 1"),
        ({"frame_rate": 0}, "frame_rate is 0: it must be 1 to 50 a second"),
        ({"frame_rate": 51}, "frame_rate is 51"),
    ],
)
def test_what_cannot_be_filmed_is_refused(options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        _film(tmp_path / "a.gif", **options)


def test_a_name_that_is_no_films_is_refused(tmp_path):
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("episode.png", "folder.gif"):
        with pytest.raises(ConfigError, match="give a file that ends in"):
            _film(tmp_path / name)
    with pytest.raises(ResultsError, match="is a file and not a folder"):
        _film(tmp_path / "file" / "a.gif")


def test_the_gallery_lays_pictures_out_in_lines(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import gallery  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(gallery, "_WIDTH", 50)
    shades = [np.full((h, w, 3), 10 * h, np.uint8) for h, w in ((5, 20), (8, 18), (4, 4), (3, 60))]
    made = np.asarray(gallery.sheet(shades))
    assert made.shape == (8 + 12 + 4 + 12 + 3, 60, 3)
    corners = [(0, 0), (0, 32), (20, 0), (36, 0)]
    assert [int(made[place][0]) for place in corners] == [50, 80, 40, 30]
    assert made[6, 0].tolist() == [255, 255, 255]


def test_a_generated_picture_is_compared_by_its_pixels(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(DOCS))
    import generate  # pyright: ignore[reportMissingImports]

    path, red = tmp_path / "a.png", Image.new("RGB", (8, 4), "red")
    assert not generate.is_current(path, red)
    red.quantize(2).save(path, "PNG")  # other bytes, the same pixels
    assert generate.is_current(path, red)
    assert not generate.is_current(path, Image.new("RGB", (4, 8), "red"))
    assert not generate.is_current(path, Image.new("RGB", (8, 4), "blue"))
    text = tmp_path / "a.md"
    text.write_bytes(b"a\r\n")
    assert generate.is_current(text, "a\r\n")
    assert not generate.is_current(text, "a\n")
