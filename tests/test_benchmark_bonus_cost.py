"""What a bonus costs: bytes and networks told from its state, lines measured, the table made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

import xplore
from xplore.benchmarks import bonus_cost as cost
from xplore.contracts.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
SMALL: dict[str, Any] = {
    "num_envs": 4, "num_steps": 8, "agent": "random", "env": "MiniGrid-DoorKey-5x5-v0",
}  # fmt: skip


def line(lost: float, fitted: int, **more: Any) -> cost.Measured:
    return {
        "reads": [], "fitted": fitted, "steps_per_second": 100e3 * (1 - lost),
        "alone_steps_per_second": 100e3, "flops_per_step": 1234.0, "state_bytes_per_env": 5678,
        "state_bytes_shared": 0, "alone_seconds": [1.0, 2.0, 3.0], "load": 1.0,
        "seconds": [t / (1 - lost) for t in (1.0, 2.0, 3.0)], **more,
    }  # fmt: skip


def measured(**lines: cost.Measured) -> cost.Measured:
    device = {"count": 1, "processor": "CPU", "kind": "cpu", "cores": 2}
    alone = {"flops_per_step": 98765.0, "state_bytes_per_env": 400, "state_bytes_shared": 4000}
    kind = {"num_envs": 256, "num_steps": 128, "agent": "ppo", "env": cost.ENV}
    return {**kind, "alone": alone, "environment": {"device": device}, "lines": lines}


def test_the_table_is_sorted_and_says_who_is_too_dear() -> None:
    text = cost.table(
        measured(
            dear=line(0.49, 2),
            counts=line(0.04, 0, reads=["position"]),
            one=line(0.31, 1),
            other=line(0.2, 1),
            refused={"failed": "not for images"},
        )
    )
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()[2:7]]
    assert [row[0] for row in rows] == ["PPO alone", "`counts`", "`other`", "`one`", "`dear`"]
    assert rows[0][3:] == ["100k", "100k", "-", "98,765", "400", "4,000"]
    assert rows[1] == [
        "`counts`",
        "position",
        "0",
        "96k",
        "100k",
        "4% [4, 4]",
        "1,234",
        "5,678",
        "0",
    ]
    assert "More than 35% of PPO's throughput: `dear` (2)." in text
    assert "Of the 2 with one network the dearest is `one`, 31%." in text
    assert "Not measured: `refused` (not for images)." in text
    assert "shared" not in text.replace("bytes shared", "")
    assert "9 to 9 processes" in cost.table(measured(one=line(0.3, 1, load=9.0)))


@pytest.mark.parametrize(
    ("id", "fitted"),
    [("count", 0), ("rnd", 1), ("icm", 1), ("deir", 1), ("ngu", 2), ("e3b_x_noveld", 2)],
)
def test_networks_are_told_from_the_state(id: str, fitted: int) -> None:
    config = cost.config_of(id, **SMALL)
    state = jax.eval_shape(lambda key: config.bonus.init(key, config.run_spec()), jax.random.key(0))
    assert cost.num_fitted(state) == fitted


def test_bytes_of_envs_are_told_from_those_they_share() -> None:
    per_env, shared = cost.state_bytes_of_bonus(cost.config_of("count", **SMALL))
    assert per_env == 0
    assert shared > 0
    # 128 embeddings of 32 floats, how many there are, a scale, and what the normaliser keeps.
    per_env, _ = cost.state_bytes_of_bonus(cost.config_of("ngu", **SMALL))
    assert per_env == 128 * 32 * 4 + 4 + (4 + 1) + 4


def test_lines_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bonus-cost"
    cost.main(folder, ("episodic_count",), rounds=2, **SMALL)
    kept = json.loads((folder / "bonus_cost.json").read_text())
    found = kept["lines"]["episodic_count"]
    assert len(found["seconds"]) == len(found["alone_seconds"]) == 2
    assert found["fitted"] == 0
    low, middle, high = cost.lost(found)
    assert low <= middle <= high < 1
    assert "`episodic_count`" in (folder / "table.md").read_text()

    monkeypatch.setattr(cost, "Run", lambda config: pytest.fail("measured again"))
    cost.main(folder, ("episodic_count",), rounds=2, **SMALL)
    with pytest.raises(ConfigError, match="another folder"):
        cost.main(folder, **{**SMALL, "num_envs": 8})


def test_the_stored_table_is_what_was_measured() -> None:
    folder = ROOT / "results" / "bonus-cost"
    stored = json.loads((folder / "bonus_cost.json").read_text())
    text = cost.table(stored)
    assert text == (folder / "table.md").read_text()
    assert text.strip() in (ROOT / "docs" / "bonuses.md").read_text()
    assert set(stored["lines"]) <= set(xplore.list_bonuses())
