"""How the words of a command line become values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

import xplore
from xplore.cli.options import StepCount, chosen, leading, parse, peek, plug_options, with_plugs
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import Entry


@dataclasses.dataclass(frozen=True)
class Options:
    """Some command."""

    env: Annotated[str, tyro.conf.Positional]
    bonus: str = "mine"
    steps: StepCount = 1000
    loud: bool = False


@xplore.component
class Inner:
    size: int = 3


INNER = Inner()


def mine(
    scale: float = 1,
    sizes: tuple[int, ...] = (64, 64),
    kind: Literal["a", "b"] = "a",
    limit: int | None = None,
    inner: Inner = INNER,
    *,
    needed: str,
) -> Any:
    """A user's own bonus.

    Args:
        scale: how much of it,
            in two lines.
        sizes, limit: shared words.
    """


def free(id: str = "x", **params: Any) -> Any:
    """Takes anything."""


PLUGGED_BY_NAME = {
    "mine": Entry("bonus", "mine", mine, {"kind": "b"}),
    "free": Entry("env", "free", free, {}),
}


@pytest.fixture(autouse=True)
def _entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xplore.cli.options.find", lambda kind, id: PLUGGED_BY_NAME[id])


def parsed(*args: str) -> Any:
    return parse(with_plugs(Options, {"bonus": "mine"}, args), args, prog="xplore some")


def test_options_of_a_plug_reach_it() -> None:
    got = parsed(
        "E", "--bonus.scale", "2.5", "--bonus.sizes", "8", "16", "--bonus.limit", "7",
        "--bonus.needed=x", "--steps", "1e6", "--loud",
    )  # fmt: skip
    assert (got.env, got.steps, got.loud) == ("E", 1_000_000, True)
    assert chosen(got, "bonus") == {"scale": 2.5, "sizes": (8, 16), "limit": 7, "needed": "x"}


def test_what_is_not_said_is_left_to_the_factory() -> None:
    assert chosen(parsed("E", "--bonus.needed", "x"), "bonus") == {"needed": "x"}


def test_the_registration_sets_the_default() -> None:
    assert parsed("E", "--bonus.needed", "x").bonus_options.kind == "b"
    assert chosen(parsed("E", "--bonus.needed", "x", "--bonus.kind", "a"), "bonus")["kind"] == "a"


def test_what_words_cannot_spell_is_no_option() -> None:
    fields = {f.name for f in dataclasses.fields(plug_options(PLUGGED_BY_NAME["mine"]))}
    assert fields == {"scale", "sizes", "kind", "limit", "needed"}


def test_any_keyword_reaches_a_factory_that_takes_any() -> None:
    args = ["E", "--env.max-steps", "200", "--env.flag=True", "--env.mode", "fast"]
    got = parse(with_plugs(Options, {"env": "free"}, args), args, prog="xplore some")
    assert chosen(got, "env") == {"max_steps": 200, "flag": True, "mode": "fast"}


def test_help_says_what_the_docstring_says(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed("--help")
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "how much of it, in two lines." in out
    assert out.count("shared words.") == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("E", "--bonus.scal", "2"), "unknown option '--bonus.scal'; did you mean '--bonus.scale'"),
        (("E", "--stps=3"), "unknown option '--stps'; did you mean '--steps'"),
        (("E", "--loudd"), "did you mean '--loud'"),
        (("E", "F", "--bonus.needed", "x"), "unexpected 'F'"),
        (("E", "--steps", "many", "--bonus.needed", "x"), "--steps: could not convert"),
        (("E", "--steps", "1.5", "--bonus.needed", "x"), "1.5 is not a whole number"),
        (("E", "--steps", "inf", "--bonus.needed", "x"), "inf is not a whole number"),
        (("E", "--bonus.kind", "c", "--bonus.needed", "x"), "invalid choice 'c'"),
        (
            ("E", "--bonus.scale", "--bonus.needed", "x"),
            "Missing value for argument '--bonus.scale'",
        ),
        (("E",), "--bonus.needed"),
        ((), "required"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(*args)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not set("│╭╰─") & set(str(error.value))
    assert capsys.readouterr() == ("", "")


def test_ids_are_read_before_there_are_options() -> None:
    assert peek(["E", "--bonus", "rnd"], "--bonus", "none") == "rnd"
    assert peek(["E", "--bonus=rnd", "--bonus.x", "3"], "--bonus", "none") == "rnd"
    assert peek(["E", "--bonus"], "--bonus", "none") == "none"


def test_the_leading_word_is_required_unless_help_is_asked_for() -> None:
    assert leading(["E", "--x"], "env", "xplore some") == "E"
    assert leading(["--help"], "env", "xplore some") is None
    with pytest.raises(ConfigError, match="`xplore some ENV"):
        leading(["--x", "E"], "env", "xplore some")


def test_a_path_is_a_path() -> None:
    @dataclasses.dataclass(frozen=True)
    class Folder:
        out: Path | None = None

    assert parse(Folder, ["--out", "here"], prog="xplore some").out == Path("here")
