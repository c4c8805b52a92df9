"""Checkpoints: what a run needs to go on, saved so that a kill at any moment cannot spoil it.

A checkpoint is written into a hidden folder and appears under its name by one rename, so a folder
that has a checkpoint's name is whole. `<folder>/<number>-step-<step>/` holds `meta.json` (schema,
step, the run's fingerprint, and path, shape, dtype and checksum of every leaf) and `arrays/`, the
leaves in orbax's format.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from xplore.contracts.errors import CheckpointError
from xplore.contracts.types import PyTree

SCHEMA_VERSION = 1
_KEEP = 2
_NAME = re.compile(r"(\d{6,})-step-(\d+)")
_HIDDEN = re.compile(r"\.(?:new|old)-(\d+)-.*")
_ADVICE = "give another folder (--checkpoints), or remove this one to start over"


class Checkpointer:
    """Saves and restores the state of one run in `folder`, keeping the last two checkpoints.

    Args:
        folder: made at the first save.
        fingerprint: JSON data that tells this run from others, such as its config: a folder with
            checkpoints of another is neither read nor written.
    """

    def __init__(self, folder: str | Path, fingerprint: Any) -> None:
        self.folder = Path(folder).absolute()
        # What was restored from JSON has lists for tuples: compare like with like.
        self._fingerprint = json.loads(json.dumps(fingerprint))
        self._ours = False

    def save(self, step: int, tree: PyTree) -> None:
        """Saves `tree`, arrays of JAX and NumPy (typed keys too) and numbers, as of `step`.

        Returns once it is on disk; what was saved before stays until then.

        Raises:
            CheckpointError: the folder cannot be written, or belongs to another run.
        """
        if not self._ours:
            for path in self._newest_first():
                with contextlib.suppress(_Unreadable):
                    self._refuse_another(_read_meta(path))
        leaves, arrays = _describe(tree)
        meta = {
            "schema": SCHEMA_VERSION,
            "step": int(step),
            "fingerprint": self._fingerprint,
            "leaves": leaves,
        }
        hidden = self.folder / f".new-{os.getpid()}-{step}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            hidden.mkdir()
            _write_arrays(hidden / "arrays", arrays)
            with (hidden / "meta.json").open("w") as file:
                json.dump(meta, file)
                file.flush()
                os.fsync(file.fileno())
            self._commit(hidden, step)
        except (OSError, ValueError, RuntimeError) as error:  # the last two are orbax's
            shutil.rmtree(hidden, ignore_errors=True)
            raise CheckpointError(
                f"cannot write a checkpoint to {self.folder} ({_one_line(error)}):"
                " make room for it, or give another folder (--checkpoints)"
            ) from error
        self._ours = True
        self._prune()

    def restore_latest(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Returns `(step, tree)` of the newest checkpoint that can be read; None if there is none.

        Args:
            like: what was saved, or its `jax.ShapeDtypeStruct`s: gives the structure. Leaves come
                back bit for bit, as NumPy arrays and numbers where `like` has those, else on the
                default device.

        Raises:
            CheckpointError: it belongs to another run or version, or none of them can be read.
        """
        reasons = []
        for path in self._newest_first():
            try:
                meta = _read_meta(path)
                self._refuse_another(meta)
                tree = _restore(path, meta, like)
            except _Unreadable as error:
                reasons.append(f"{path.name}: {error}")
                continue
            if reasons:
                warnings.warn(
                    f"going back to {path}: what is newer cannot be read ({'; '.join(reasons)})",
                    stacklevel=2,
                )
            self._ours = True
            return int(meta["step"]), tree
        if reasons:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(reasons)}): {_ADVICE}"
            )
        return None

    def _newest_first(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.is_dir() else []
        named = [(int(m[1]), path) for path in found if (m := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(named, reverse=True)]

    def _refuse_another(self, meta: dict[str, Any]) -> None:
        if meta["schema"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"{self.folder} was written by another version of xplore (checkpoint schema"
                f" {meta['schema']}; this one reads {SCHEMA_VERSION}): {_ADVICE}"
            )
        difference = _difference(meta["fingerprint"], self._fingerprint)
        if difference:
            raise CheckpointError(
                f"{self.folder} holds the checkpoint of another run ({difference}): {_ADVICE}"
            )

    def _commit(self, hidden: Path, step: int) -> None:
        newest = self._newest_first()
        number = int(newest[0].name.partition("-")[0]) + 1 if newest else 1
        # The number, not the step, says which is newest: a step may be saved twice, when a run went
        # back to an older checkpoint, and the place of the first must not be touched before.
        hidden.rename(self.folder / f"{number:06d}-step-{int(step)}")
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _prune(self) -> None:
        for path in self._newest_first()[_KEEP:]:
            # Renamed first, so that a half-removed one has no checkpoint's name.
            hidden = self.folder / f".old-{os.getpid()}-{path.name}"
            with contextlib.suppress(OSError):
                path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def _sweep(self) -> None:
        """Removes what killed processes left behind."""
        for path in self.folder.iterdir():
            match = _HIDDEN.fullmatch(path.name)
            if match and (int(match[1]) == os.getpid() or not psutil.pid_exists(int(match[1]))):
                shutil.rmtree(path, ignore_errors=True)


class _Unreadable(Exception):
    """A checkpoint is damaged; the message says how."""


class _Leaf(NamedTuple):
    """One leaf as it is stored: key arrays as their data, with the name of their algorithm."""

    path: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _flatten(tree: PyTree) -> tuple[list[tuple[_Leaf, Any]], Any]:
    keyed, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = []
    for path, value in keyed:
        array = value if isinstance(value, (jax.Array, jax.ShapeDtypeStruct)) else np.asarray(value)
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "the state"
        leaves.append((_Leaf(name, tuple(array.shape), str(array.dtype)), value))
    return leaves, structure


def _describe(tree: PyTree) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The leaves of `tree` as JSON data for `meta.json`, and as arrays by their number."""
    leaves, _ = _flatten(tree)
    data = [jax.random.key_data(value) if _is_key(value) else value for _, value in leaves]
    described, arrays = [], {}
    for index, ((leaf, value), array) in enumerate(zip(leaves, jax.device_get(data), strict=True)):
        # Not ascontiguousarray, which makes a scalar an array of one.
        stored = np.asarray(array, order="C")
        entry = {
            "path": leaf.path,
            "shape": list(leaf.shape),
            "dtype": leaf.dtype,
            "crc32": _checksum(stored),
        }
        if _is_key(value):
            entry["key_impl"] = str(jax.random.key_impl(value))
        described.append(entry)
        if stored.size:  # orbax stores no empty arrays; their shape and dtype say all
            arrays[f"{index:05d}"] = stored
    return described, arrays


def _restore(path: Path, meta: dict[str, Any], like: PyTree) -> PyTree:
    wanted, structure = _flatten(like)
    stored = [_Leaf(e["path"], tuple(e["shape"]), e["dtype"]) for e in meta["leaves"]]
    _refuse_other_leaves(path, stored, [leaf for leaf, _ in wanted])
    names = [f"{i:05d}" for i, leaf in enumerate(stored) if 0 not in leaf.shape]
    arrays = _read_arrays(path / "arrays", names)
    restored = []
    for index, (entry, (leaf, value)) in enumerate(zip(meta["leaves"], wanted, strict=True)):
        array = _empty(leaf, value) if 0 in leaf.shape else arrays[f"{index:05d}"]
        if _checksum(array) != entry["crc32"]:
            raise _Unreadable(f"the checksum of {leaf.path} is wrong")
        restored.append(_as(value, array, entry.get("key_impl")))
    return jax.tree.unflatten(structure, restored)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.asarray(array, order="C").reshape(-1).view(np.uint8).data)


def _empty(leaf: _Leaf, value: Any) -> np.ndarray:
    if _is_key(value):
        return np.zeros(jax.eval_shape(jax.random.key_data, value).shape, np.uint32)
    return np.zeros(leaf.shape, jnp.dtype(leaf.dtype))


def _as(like: Any, array: np.ndarray, key_impl: str | None) -> Any:
    """`array` as the kind of leaf that `like` is."""
    if key_impl is not None:
        return jax.random.wrap_key_data(jnp.array(array), impl=key_impl)
    if isinstance(like, (bool, int, float, complex)):
        return type(like)(array.item())
    # Without 64-bit types JAX would narrow what it cannot hold; then the array stays as it is.
    if isinstance(like, (np.ndarray, np.generic)) or (
        jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype
    ):
        return array
    return jnp.array(array)


def _refuse_other_leaves(path: Path, stored: list[_Leaf], wanted: list[_Leaf]) -> None:
    if stored == wanted:
        return
    there = {leaf.path: leaf for leaf in stored}
    here = {leaf.path: leaf for leaf in wanted}
    for name in [*here, *there]:
        if there.get(name) != here.get(name):
            found = (
                f"{name} is {there.get(name, 'absent')} there and {here.get(name, 'absent')} here"
            )
            break
    else:
        found = "its leaves have another order"
    raise CheckpointError(
        f"{path} does not fit the state of this run, though their settings agree ({found}): it was"
        f" written by other code; {_ADVICE}"
    )


def _difference(there: Any, here: Any) -> str:
    """Says where two JSON values first differ, and how many more places there are; "" if equal."""
    found = list(_differences(there, here, ""))
    if not found:
        return ""
    more = f", and {len(found) - 1} more differ" if len(found) > 1 else ""
    return found[0] + more


def _differences(there: Any, here: Any, path: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict) and there.get("kind") == here.get("kind"):
        for name in {**there, **here}:
            inner = f"{path}.{name}" if path else name
            yield from _differences(there.get(name), here.get(name), inner)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, (a, b) in enumerate(zip(there, here, strict=True)):
            yield from _differences(a, b, f"{path}[{index}]")
    # As text, so that NaN equals itself and 1 is not True.
    elif json.dumps(there, sort_keys=True) != json.dumps(here, sort_keys=True):
        yield f"{path or 'its fingerprint'} is {_brief(there)} there and {_brief(here)} here"


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "kind" in value:
        return str(value["kind"]).rpartition(":")[2]
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads((path / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise _Unreadable(_one_line(error)) from error
    if not isinstance(meta, dict) or "schema" not in meta:
        raise _Unreadable("meta.json is no checkpoint's")
    known = {"step", "fingerprint", "leaves"} <= meta.keys()
    if meta["schema"] == SCHEMA_VERSION and not known:
        raise _Unreadable("meta.json is incomplete")
    return meta


@functools.cache
def _orbax() -> Any:
    """Imported at the first use: it takes a third of a second."""
    with _quiet():
        import orbax.checkpoint

    return orbax.checkpoint


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what orbax logs and warns of about its own workings off the user's terminal."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _write_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    if arrays:
        with _quiet(), _orbax().PyTreeCheckpointer() as checkpointer:
            checkpointer.save(folder, arrays)


def _read_arrays(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    if not names:
        return {}
    ocp = _orbax()
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    try:
        with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
            arrays = checkpointer.restore(folder, restore_args=as_numpy)
        return {name: np.asarray(arrays[name]) for name in names}
    except Exception as error:  # damage shows as an error of any of the libraries underneath
        raise _Unreadable(_one_line(error)) from error
