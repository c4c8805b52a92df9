"""The entry point: commands, errors, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import xplore
from xplore.cli import listing
from xplore.cli.main import COMMANDS, Terminated, main

ROOT = Path(__file__).resolve().parents[1]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    plain = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == plain
    assert all(f"xplore {name} " in plain for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: xplore {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == xplore.__version__


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("bnch", "unknown command 'bnch'; did you mean 'bench'?"),
        ("list evns", "invalid choice 'evns'"),
        ("list --kind", "unknown option '--kind'"),
        ("run", "name the env first: `xplore run ENV ...`"),
        ("run DeepSee-16-v0", "unknown environment 'DeepSee-16-v0'; did you mean 'DeepSea-"),
        ("run DeepSea-20-v0 --agent pppo", "unknown agent 'pppo'; did you mean 'ppo'"),
        ("run DeepSea-20-v0 --bonus cuont", "unknown bonus 'cuont'; did you mean 'count'"),
        ("run DeepSea-20-v0 --worlds fixd", "unknown world sampler 'fixd'; did you mean 'fixed'?"),
        ("run DeepSea-20-v0 --agent.learnin-rate 1", "did you mean '--agent.learning-rate'"),
        ("run DeepSea-20-v0 --bonus gone.py:mine", "no such file"),
        ("run DeepSea-20-v0 --seeds 0", "--seeds is 0: give at least 1"),
        ("run DeepSea-20-v0 --steps 64", "below one update"),
        ("run DeepSea-20-v0 --steps 100001", "the nearest budgets are 99,968 and 100,032"),
        ("bench quik", "unknown suite 'quik'; did you mean 'quick'?"),
        ("bench quick --only Nowhere", "--only 'Nowhere' matches no task/method of quick"),
        ("bench quick --seeds 0", "give at least one"),
        ("table quick --results not/there", "run `xplore bench quick` first"),
        ("plot quick --results not/there", "run `xplore bench quick` first"),
        ("speed DeepSea-20-v0 --num-envs 0", "num_envs is 0: it must be at least 1"),
        ("play DeepSea-20-v0 --script up", "'up' is no action"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    args: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("xplore: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(xplore.XploreError, match="unknown command"):
        main(["bnch", "--debug"])


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_stopped_run_says_how_to_go_on(
    stop: type[BaseException],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(args: Sequence[str]) -> None:
        raise stop

    monkeypatch.setattr("xplore.cli.run.run", interrupted)
    assert main(["run", "DeepSea-20-v0"]) == code
    assert capsys.readouterr().err == (
        "xplore: stopped: the same command goes on from what was saved\n"
    )


def test_sigterm_unwinds_like_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    unwound = []

    def killed(args: Sequence[str]) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            unwound.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("xplore.cli.run.run", killed)
    assert main(["run", "DeepSea-20-v0"]) == 143
    assert unwound
    assert signal.getsignal(signal.SIGTERM) == before


def test_list_shows_every_id_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    words = capsys.readouterr().out.split()
    known = (
        *xplore.list_envs(),
        *xplore.list_agents(),
        *xplore.list_bonuses(),
        *xplore.list_world_samplers(),
        "quick",
    )
    assert set(known) <= set(words)
    assert main(["list", "worlds", "--plain"]) == 0
    assert capsys.readouterr().out.split() == xplore.list_world_samplers()


def test_a_summary_that_looks_like_markup_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listing, "_summaries", lambda kind: {"a[b]": "draws [T, N] [bold]"})
    assert main(["list", "envs"]) == 0
    assert "a[b]  draws [T, N] [bold]" in capsys.readouterr().out


def test_as_a_program_it_prints_no_traceback_and_survives_a_closed_pipe() -> None:
    program = [sys.executable, "-m", "xplore.cli.main"]
    done = subprocess.run(
        [*program, "run", "nowhere"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    shell = f"'{sys.executable}' -m xplore.cli.main list | head -n 1; echo ${{PIPESTATUS[0]}}"
    piped = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert piped.stdout.splitlines()[1:] == ["0"]
    assert piped.stderr == ""
