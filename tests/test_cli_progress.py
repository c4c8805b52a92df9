"""What a person sees of a run under way."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest

from xplore.cli import progress
from xplore.loop.session import Progress


def at(env_steps: int, **metrics: float) -> Progress:
    named = {f"episode/{name}": value for name, value in metrics.items()}
    return Progress(env_steps, 1000, env_steps // 10, 100, 41_234.0, 72.0, named)


def test_all_figures_are_there() -> None:
    text = progress.Words()(at(10, **{"return": 0.625, "success": 0.5, "intrinsic": 12.0}))
    assert text == "41.2k steps/s  return 0.625  success 50%  intrinsic 12  1 min 12 s left"


def test_a_mean_over_no_episodes_keeps_the_last_one() -> None:
    words = progress.Words()
    assert "return" not in words(at(10, **{"return": math.nan}))
    words(at(20, **{"return": 0.5}))
    assert "return 0.5" in words(at(30, **{"return": math.nan}))


def test_a_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with progress.shown("task", stream) as callback:
        for env_steps in range(100, 1001, 100):
            clock[0] += 3.0
            callback(at(env_steps, **{"return": 0.5}))
    lines = stream.getvalue().splitlines()
    # Ten seconds apart, and the last one always.
    assert [line.split()[1] for line in lines] == ["400/1k", "800/1k", "1k/1k"]
    assert lines[0] == "task: 400/1k steps  41.2k steps/s  return 0.5  1 min 12 s left"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    with progress.shown("task", stream) as callback:
        callback(at(500, **{"return": 0.5}))
    drawn: Any = stream.getvalue()
    assert "50%" in drawn
    assert "41.2k steps/s" in drawn
