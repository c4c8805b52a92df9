"""The documentation is true: generated pages are current, examples run, links lead somewhere."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xplore
from xplore.bench import report
from xplore.benchmarks.speed import table as speed_table
from xplore.benchmarks.suite import suites
from xplore.cli.main import main
from xplore.testing import check_agent, check_bonus, check_env, check_world_sampler

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
GUIDES = {
    "add_an_env.md": "my_env.py",
    "add_a_bonus.md": "my_bonus.py",
    "add_an_agent.md": "my_agent.py",
    "add_a_world_sampler.md": "my_world_sampler.py",
}
SMALL = {"131_072": "4_096", "204_800": "8_192", "seeds=5": "seeds=1", "seeds=3": "seeds=1"}


def _blocks(page: Path, language: str) -> list[str]:
    """Code blocks, unindented: those in a list are indented by its depth."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.M | re.S)
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in found]


def _template(name: str) -> str:
    return str(DOCS / "templates" / name)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCS))
    import generate  # pyright: ignore[reportMissingImports]

    return generate


def test_reference_names_every_id(generator):
    text = generator.reference()
    ids = [
        *xplore.list_envs(),
        *xplore.list_agents(),
        *xplore.list_bonuses(),
        *xplore.list_world_samplers(),
    ]
    ours = [id for id in ids if not id.lower().startswith("my")]  # other tests load the templates
    assert [id for id in ours if f"`{id}`" not in text] == []
    assert "| `quick` |" in text


def test_table_and_figures_are_spliced_from_results(generator, tmp_path):
    page = "a\n<!-- table:quick -->\nold\n<!-- /table:quick -->\nb\n"
    results = tmp_path / "results"
    assert generator.splice(page, results) == page  # nothing there: what stands there stays
    (results / "quick").mkdir(parents=True)
    (results / "quick" / "table.md").write_text("| new |\n")
    (results / "quick" / "curves.png").write_bytes(b"")
    made = generator.splice(page, results)
    assert "| new |" in made
    assert "(results/quick/curves.png)" in made
    assert "old" not in made
    assert made.startswith("a\n<!-- table:quick -->\n")
    assert made.endswith("<!-- /table:quick -->\nb\n")
    assert generator.splice(made, results) == made
    assert "(../results/quick/curves.png)" in generator.splice(page, results, tmp_path / "docs")


def test_capabilities_are_found_by_trying(generator):
    capabilities = importlib.import_module("capabilities").capabilities

    memory, table, floor = map(capabilities, ("ppo_rnn", "psrl", "random"))
    assert memory.observations == ("any observation", "an index")
    assert (memory.actions, memory.recurrent, memory.replay) == (("discrete",), True, False)
    assert memory.bonus
    assert (table.observations, table.traits) == (("an index",), ("model",))
    assert floor.actions == ("discrete", "continuous")
    assert not floor.bonus  # it learns nothing
    page = generator.with_capabilities("a\nb")
    assert page == "a\nb"  # no place for it


def test_picture_is_well_formed():
    from xml.etree import ElementTree

    root = ElementTree.parse(DOCS / "update.svg").getroot()
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [e.attrib for e in root if e.tag.endswith("rect")]
    assert len(boxes) > 8
    for box in boxes:
        assert float(box.get("x", 0)) + float(box["width"]) <= width
        assert float(box.get("y", 0)) + float(box["height"]) <= height


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [t.partition("#")[0] for t in targets if "://" not in t]
    assert [t for t in local if t and not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_have_the_options_they_are_shown_with(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    lines = "".join(_blocks(page, "console")).splitlines()
    for line in lines:
        words = shlex.split(line, comments=True)
        if words and words[0] == "xplore":
            # With --help an option is looked up, and nothing is run.
            assert main([*words[1:], "--help"]) == 0, f"{line}: {capsys.readouterr().err}"
        elif words:
            assert words[0] == "make", line
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), line


def _run(source: str) -> dict[str, Any]:
    for given, small in SMALL.items():
        source = source.replace(given, small)
    # A module of its own, so that the classes in it can be found again from their JSON.
    module = types.ModuleType("readme_example")
    sys.modules[module.__name__] = module
    exec(compile(source, "README.md", "exec", dont_inherit=True), vars(module))
    return vars(module)


def test_readme_example_of_a_bonus(capsys):
    example, _ = _blocks(ROOT / "README.md", "python")
    assert all(given in example for given in ("131_072", "seeds=5"))
    # What acts is not the point here, and an agent without a network compiles in no time.
    scope = _run(example.replace('make_agent("ppo")', 'make_agent("random")'))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["none", "count", "mine"]
    counts = np.asarray(scope["result"].state.bonus)
    assert counts.sum() == 4_096  # every step of the budget was counted, none twice
    check_bonus(scope["StateActionCount"](), xplore.make("DeepSea-10-v0"))


def test_readme_example_of_training():
    _, example = _blocks(ROOT / "README.md", "python")
    assert all(given in example for given in ("204_800", "seeds=3"))
    scope = _run(example)
    assert scope["result"].env_steps[-1] == 8_192
    assert scope["test"].success.shape == (1, 100, 1)


def test_readme_counts_its_templates():
    longest = max(len(Path(_template(t)).read_text().splitlines()) for t in GUIDES.values())
    stated = re.search(r"none of them above (\d+)\s+lines", (ROOT / "README.md").read_text())
    assert stated is not None
    assert longest <= int(stated[1])


@pytest.mark.parametrize("guide", GUIDES)
def test_guide_is_short_and_knows_its_template(guide):
    text = (DOCS / guide).read_text()
    steps = [int(n) for n in re.findall(r"^(\d+)\. ", text, re.M)]
    assert steps == list(range(1, len(steps) + 1))
    assert 5 <= len(steps) <= 10
    name = GUIDES[guide]
    stated = re.search(rf"\(templates/{name}\), (\d+) lines", text)
    assert stated is not None
    assert int(stated[1]) == len(Path(_template(name)).read_text().splitlines())


@pytest.mark.parametrize("guide", GUIDES)
def test_guide_checks_its_template(guide, monkeypatch):
    """The check that the guide shows passes."""
    monkeypatch.chdir(ROOT)
    (example,) = _blocks(DOCS / guide, "python")
    checks = [check_agent, check_bonus, check_env, check_world_sampler]
    assert any(f"\n{check.__name__}(" in example for check in checks)
    exec(compile(example, guide, "exec", dont_inherit=True), {"xplore": xplore})


def test_agent_template_learns():
    config = xplore.Config(
        env=xplore.make("Probe-ChoiceByObservation-v0"),
        agent=xplore.make_agent(f"{_template('my_agent.py')}:my_agent"),
        bonus=xplore.make_bonus("none"),
        worlds=xplore.make_world_sampler("fresh"),
        budget_steps=8 * 8 * 40,
        num_envs=8,
        num_steps=8,
    )
    result = xplore.train(config)
    # Random play earns 0; epsilon-greedy play of what was learned earns 0.9 on average.
    assert result.metrics["episode/return"][0, -10:].mean() > 0.7


def test_no_page_names_a_machine():
    pages = [*PAGES, DOCS / "update.svg"]
    wrong = re.compile(r"(?<![\w.])/(?:home|work|tmp|root|usr)/|pypi|localhost", re.I)
    assert {p.name: m[0] for p in pages if (m := wrong.search(p.read_text()))} == {}


@pytest.mark.parametrize(
    ("suite", "page"), [("quick", "README.md"), ("minigrid-learning", "docs/minigrid.md")]
)
def test_stored_tables_are_what_the_rows_say(suite, page):
    folder = ROOT / "results" / suite
    made = report(suites()[suite], folder, on_problem=pytest.fail)
    text = "\n".join(table.to_markdown() for table in made.tables)
    assert text == (folder / "table.md").read_text()
    assert text.strip() in (ROOT / page).read_text()


def test_stored_speed_table_is_what_was_measured():
    folder = ROOT / "results" / "speed"
    measured = json.loads((folder / "speed.json").read_text())
    assert speed_table(measured) == (folder / "table.md").read_text()
