"""`xplore run` and `xplore speed`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xplore.benchmarks import jobs
from xplore.cli import run as command
from xplore.cli.main import main
from xplore.contracts.errors import ConfigError
from xplore.record.rows import read_rows

SHARED = Path(__file__).with_name("test_bench.py")
RUN = [
    "run",
    f"{SHARED}:Steps",
    "--agent",
    f"{SHARED}:Always",
    "--num-envs",
    "8",
    "--num-steps",
    "16",
]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `train` was called with; it does not run."""
    calls: list[Any] = []

    def recorded(config: Any, **options: Any) -> Any:
        calls.append((config, options))
        raise ConfigError("stopped by the test")

    monkeypatch.setattr(jobs, "train", recorded)
    return calls


def test_every_option_reaches_the_run(configured: list[Any], tmp_path: Path) -> None:
    words = (
        f"run {SHARED}:Steps --env.length 7 --agent ppo --agent.learning-rate 3e-4"
        " --agent.hidden-sizes 32 16 --bonus rnd --bonus.coefficient 0.25 --worlds fixed"
        " --worlds.num-levels 10 --steps 4e3 --seeds 3 --num-envs 4 --num-steps 25"
        f" --num-levels 9 --seed-mode sequential --results {tmp_path}"
        f" --checkpoints {tmp_path}/saved"
    )
    assert main(words.split()) == 2
    ((config, options),) = configured
    assert config.env.length == 7
    assert (config.agent.learning_rate, config.agent.hidden_sizes) == (3e-4, (32, 16))
    assert config.worlds.num_levels == 10
    sizes = (config.budget_steps, config.num_envs, config.num_steps, config.num_levels)
    assert sizes == (4000, 4, 25, 9)
    assert (options["seeds"], options["seed_mode"]) == ([0, 1, 2], "sequential")
    assert options["checkpoint_dir"].parent == tmp_path / "saved"
    plain = words.replace("--bonus.coefficient 0.25", "")
    assert main(plain.split()) == 2
    assert configured[1][0].bonus != config.bonus


def test_an_agent_of_the_users_own_file_with_a_network(
    configured: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import flax.linen as nn\n"
        "import xplore\n"
        "class Flat(nn.Module):\n"
        "    size: int = 8\n"
        "    @nn.compact\n"
        "    def __call__(self, obs):\n"
        "        return nn.Dense(self.size)(obs.reshape(obs.shape[0], -1) * 1.0)\n"
        "@xplore.register_agent('flat')\n"
        "def flat(size: int = 8, discount: float = 0.5):\n"
        "    return xplore.make_agent('pqn', torso=Flat(size), discount=discount)\n"
    )
    args = ["run", f"{SHARED}:Steps", "--agent", f"{file}:flat", "--results", str(tmp_path)]
    assert main([*args, "--agent.size", "16", "--agent.discount", "0.9"]) == 2
    ((config, _),) = configured
    assert (config.agent.discount, config.agent.torso.size) == (0.9, 16)
    assert config.agent != configured[0][0].agent.__class__(discount=0.9)
    capsys.readouterr()
    assert main([*args, "--agent.sise", "16"]) == 2
    assert "did you mean '--agent.size'" in capsys.readouterr().err


def test_a_bonus_of_the_users_own_file(configured: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from xplore import make_bonus\n"
        "def gentle(by: float = 0.5, on: str = 'count'):\n"
        "    '''Another bonus, made gentle.'''\n"
        "    return make_bonus(on)\n"
    )
    args = [*RUN, "--bonus", f"{file}:gentle", "--results", str(tmp_path), "--bonus.on"]
    assert main([*args, "none"]) == 2
    assert main([*args, "episodic_count"]) == 2
    kinds = [type(config.bonus).__name__ for config, _ in configured]
    assert len(set(kinds)) == 2


def test_a_run_writes_rows_and_is_not_made_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = [
        *RUN,
        "--steps",
        "640",
        "--seeds",
        "2",
        "--eval-levels",
        "5",
        "--results",
        str(tmp_path),
    ]
    assert main(args) == 0
    first = capsys.readouterr().out
    (path,) = (tmp_path / "run").glob("*.parquet")
    assert str(path) in first
    assert "eval/return                      4  (4 to 4 over 2 seeds)" in first
    rows = read_rows(tmp_path / "run")
    assert set(rows["task"]) == {"test_bench.py:Steps"}
    assert {"episode/return", "eval/return", "eval/success"} <= set(rows["metric"])
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert sidecar["seeds"] == [0, 1]
    assert sidecar["config"]["budget_steps"] == 640
    assert not list((tmp_path / "run" / ".checkpoints").iterdir())

    monkeypatch.setattr(jobs, "train", None)  # a call would be a TypeError
    assert main(args) == 0
    again = capsys.readouterr().out
    assert "nothing was run" in again
    assert again.splitlines()[1:] == first.splitlines()[2:]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_saves_and_goes_on(
    number: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[int] = []

    @contextlib.contextmanager
    def killing(job: Any) -> Iterator[Any]:
        def callback(progress: Any) -> None:
            seen.append(progress.env_steps)
            if len(seen) == 1:
                os.kill(os.getpid(), number)

        yield callback

    monkeypatch.setattr(command, "show_progress", killing)
    args = [*RUN, "--steps", "2560", "--eval-levels", "0", "--results", str(tmp_path)]
    assert main(args) == code
    err = capsys.readouterr().err
    assert err.startswith("xplore: stopped: ")
    assert err.count("\n") == 1
    assert not list((tmp_path / "run").glob("*.parquet"))
    at = len(seen)
    assert main(args) == 0
    assert seen[at] > seen[at - 1]
    assert seen[-1] == 2560


def test_a_folder_that_cannot_be_written_costs_no_training(
    configured: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([*RUN, "--steps", "640", "--results", str(tmp_path / "file")]) == 2
    assert "cannot write results" in capsys.readouterr().err
    assert configured == []


def test_without_a_time_limit_nothing_is_evaluated(tmp_path: Path) -> None:
    source = SHARED.read_text().replace("max_steps=self.length", "max_steps=0")
    file = tmp_path / "endless.py"
    file.write_text(source)
    args = [*RUN, "--steps", "640", "--results", str(tmp_path)]
    args[1] = f"{file}:Steps"
    assert main(args) == 0
    metrics = set(read_rows(tmp_path / "run")["metric"])
    assert not any(name.startswith("eval") for name in metrics)


def test_speed_says_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    words = f"speed {SHARED}:Steps --env.length 5 --num-envs 1e1 --num-steps 10 --repeats 2 --blind"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert "10 envs, 10 steps each" in out
    assert "state        4 bytes an env, observation 4" in out
    assert "episodes     20 in one repeat" in out
    assert "without obs" in out
