"""Distributions of levels as data: files of TOML, options that vary, sheets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import xplore
from xplore.cli.main import main
from xplore.contracts.errors import XploreError
from xplore.envs.families.maze import maze
from xplore.envs.families.spec import family, load_spec
from xplore.envs.families.varied import Varied, varying
from xplore.testing import _programs, check_world_sampler

MAZE = "Maze-Perfect-13x13-v0"


def test_a_spec_says_what_make_is_told(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(f'env = "{MAZE}"\n[options]\nsize = 9\nbraid = 1\nview = {{ image = "full" }}')
    env: Any = load_spec(path)
    assert env.task == maze(size=9, layout="kruskal", braid=1.0).task
    assert env.view.image == "full"
    heist: Any = family({"env": "Heist-Hard-v0", "options": {"size": 9}})
    assert heist.size == 9


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({}, "env is missing"),
        ({"env": "Maze-Perfekt-13x13-v0"}, "did you mean"),
        ({"env": MAZE, "option": {}}, "did you mean 'options'"),
        ({"env": MAZE, "options": 3}, r"it must be a table, \[options\]"),
        ({"env": MAZE, "options": {"sise": 9}}, "did you mean 'size'"),
        ({"env": MAZE, "options": {"size": "9"}}, "size is '9': it must be int"),
        ({"env": MAZE, "options": {"size": 9.5}}, "size is 9.5: it must be int"),
        ({"env": MAZE, "options": {"size": 10}}, "size is 10"),
        ({"env": MAZE, "options": {"view": {"imag": "full"}}}, "did you mean 'image'"),
        ({"env": MAZE, "options": {"view": "full"}}, "it must be a table"),
        ({"env": MAZE, "options": {"layout": 3}}, "it must be str"),
        ({"env": MAZE, "ranges": {"braid": 0.5}}, r"give \[least, greatest\]"),
        ({"env": MAZE, "ranges": {"size": [9, 13]}}, "what can: braid, far"),
        ({"env": MAZE, "ranges": {"braid": [0, 2]}}, "braid is 2.0"),
        ({"env": MAZE, "ranges": {"braid": [1, 0]}}, "the least comes first"),
        ({"env": "MiniGrid-Empty-5x5-v0"}, "is no family"),
    ],
)
def test_what_a_spec_cannot_say_is_refused(said, error):
    with pytest.raises(XploreError, match=error):
        family(said)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(XploreError, match="cannot be read"):
        load_spec(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("env = ")
    with pytest.raises(XploreError, match="is no TOML"):
        load_spec(tmp_path / "bad.toml")
    (tmp_path / "wrong.toml").write_text("envs = 3")
    with pytest.raises(XploreError, match=r"wrong\.toml: unknown part 'envs'"):
        load_spec(tmp_path / "wrong.toml")


def test_options_vary_from_level_to_level():
    env = Varied(maze(size=9, layout="kruskal"), ("braid",), (0.0,), (1.0,))
    assert varying(env.env) == ("braid", "far")
    _programs.check_value(env, "Varied")

    @jax.jit
    def num_walls(env, keys, values):
        several = jax.vmap(env.sample_level)(keys).grid
        one = jax.vmap(env.sample_level_with, (0, None))(keys, values).grid
        return [jnp.sum(x == several[0, 0], axis=1) for x in (several, one)]

    keys = jax.random.split(jax.random.key(0), 64)
    varied, perfect = num_walls(env, keys, jnp.zeros(1))
    assert len(np.unique(perfect)) == 1
    assert len(np.unique(varied)) > 4
    assert np.all(varied <= perfect)


def test_a_file_is_an_environment_and_its_options_can_be_searched(tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text(f'env = "{MAZE}"\n[options]\nsize = 9\n[ranges]\nbraid = [0, 1]\n')
    env = xplore.make(str(spec))
    assert env == Varied(maze(size=9, layout="kruskal"), ("braid",), (0.0,), (1.0,))
    check_world_sampler(xplore.make_world_sampler("spec_search"), env)
    with pytest.raises(XploreError, match="has no option 'size'"):
        xplore.make(str(spec), size=7)
    with pytest.raises(XploreError, match="cannot be read"):
        xplore.make(str(tmp_path / "none.toml"))


def test_a_sheet_of_levels(tmp_path, capsys):
    out, spec = tmp_path / "sheet.png", tmp_path / "spec.toml"
    spec.write_text(f'env = "{MAZE}"\n[options]\nsize = 9\n[ranges]\nbraid = [0, 1]\n')
    assert main(["worlds", "sample", str(spec), "--num", "4", "--out", str(out)]) == 0
    assert "4 levels of Maze-Kruskal-9x9" in capsys.readouterr().out
    with Image.open(out) as image:
        assert len(image.getcolors(1 << 20) or ()) > 8
        assert image.width > 240
    words = ["worlds", "sample", "Chaser-Easy-v0", "--num", "2", "--out", str(out)]
    assert main(words) == 0
    assert "fewest steps known 0%" in capsys.readouterr().out
    assert main([*words, "--search"]) == 0
    assert "solvable 100%, median of the fewest steps" in capsys.readouterr().out
    for words, said in ((["sampl"], "did you mean 'sample'"), ([], "no action")):
        assert main(["worlds", *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["worlds", "sample", MAZE, "--num", "0"]) == 2
    assert main(["worlds", "sample", MAZE, "--out", "x.jpg"]) == 2
