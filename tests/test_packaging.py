"""The package that gets installed is the one in the folders, however it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import xplore
from xplore.envs.minigrid import wfc_bank

ROOT = Path(__file__).resolve().parents[1]
MAPPED = ("envs", "agents", "benchmarks")


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _packages_in_folders() -> set[str]:
    found = {"xplore"}
    for top in (ROOT / "xplore", *(ROOT / name for name in MAPPED)):
        base = "xplore" if top.name == "xplore" else f"xplore.{top.name}"
        for init in top.rglob("__init__.py"):
            parts = init.parent.relative_to(top).parts
            if top.name == "xplore" and parts[:1] and parts[0] in MAPPED:
                continue  # rglob may or may not follow the links, by Python version
            found.add(".".join((base, *parts)))
    return found


def _run(*args: str | Path, cwd: Path, path: Path | None = None) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_package_list_is_the_folders():
    """setuptools silently leaves an unlisted sub-package out of the wheel."""
    listed = _pyproject()["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == _packages_in_folders()


def test_every_module_is_in_a_package():
    for top in ("xplore", *MAPPED):
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), f"{module} is in no package"


@pytest.mark.parametrize("name", MAPPED)
def test_links_are_relative_and_mapped(name):
    link = ROOT / "xplore" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert _pyproject()["tool"]["setuptools"]["package-dir"][f"xplore.{name}"] == name


@pytest.mark.parametrize("name", MAPPED)
def test_bare_name_refuses_to_import(name):
    """Imported twice under two names, every class would exist twice."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"import xplore.{name}, not {name}" in done.stderr


def test_version_has_one_source():
    assert "version" in _pyproject()["project"]["dynamic"]
    assert xplore.__version__.count(".") == 2


def test_constraints_are_pins_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines == sorted(lines)
    for line in lines:
        name, _, version = line.partition("==")
        assert name, line
        assert version, line
        assert not set(line) & set(" @/<>"), line


def test_uninstalled_checkout_imports(tmp_path):
    out = _run("-c", "import xplore.envs; print(xplore.envs.__file__)", cwd=tmp_path, path=ROOT)
    assert Path(out.strip()).parent == ROOT / "xplore" / "envs"


def test_sdist_to_wheel_to_import(tmp_path):
    """Builds as a release is built: the wheel from the sdist, which has no links."""
    dist = tmp_path / "dist"
    _run("-m", "build", "--no-isolation", "--outdir", dist, ROOT, cwd=tmp_path)
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    assert sdist.name.startswith(f"xplore_rl-{xplore.__version__}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        f"xplore/{file.relative_to(base).as_posix()}"
        for base, top in [(ROOT / "xplore", ROOT / "xplore"), *((ROOT, ROOT / m) for m in MAPPED)]
        for file in top.rglob("*.py")
    }
    assert expected <= names, f"not in the wheel: {sorted(expected - names)}"
    assert "xplore/py.typed" in names
    banks = {f"xplore/envs/minigrid/banks/{preset}.npz" for preset in wfc_bank.PRESETS}
    assert {n for n in names if n.endswith(".npz")} == banks
    unexpected = {n for n in names if n.endswith(".py")} - expected
    assert not unexpected, f"in the wheel, not in the folders: {sorted(unexpected)}"

    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    modules = sorted(_packages_in_folders())
    code = f"import importlib; print([importlib.import_module(m).__file__ for m in {modules}][-1])"
    assert _run("-c", code, cwd=tmp_path, path=site).startswith(str(site))
