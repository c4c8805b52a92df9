"""Comparisons that name what differs, and where."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.spaces import Space, contains
from xplore.contracts.types import PyTree


def require(holds: bool | np.bool_, message: str) -> None:
    """Raises AssertionError with `message` unless `holds`; not an `assert`, which -O removes."""
    if not holds:
        raise AssertionError(message)


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def as_numpy(x: Any) -> np.ndarray[Any, Any]:
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def same_structure(a: PyTree, b: PyTree) -> bool:
    """Whether two pytrees differ in their leaves at most."""
    structures: tuple[Any, Any] = jax.tree.structure(a), jax.tree.structure(b)
    return bool(structures[0] == structures[1])


def require_same(expected: PyTree, got: PyTree, message: str) -> None:
    """Requires equal structures, shapes and dtypes."""
    wanted, made = jax.tree.structure(expected), jax.tree.structure(got)
    if not same_structure(expected, got):
        raise AssertionError(f"{message}: {made} instead of {wanted}")
    for (path, a), (_, b) in zip(_named(expected), _named(got), strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise AssertionError(
                f"{message}: {path or 'it'} is {b.dtype}{list(b.shape)}"
                f" instead of {a.dtype}{list(a.shape)}"
            )


def require_equal(got: PyTree, expected: PyTree, message: str) -> None:
    """Requires equal bits (NaN equals NaN)."""
    for (path, a), (_, b) in zip(_named(got), _named(expected), strict=True):
        a, b = as_numpy(a), as_numpy(b)
        inexact = np.issubdtype(a.dtype, np.inexact)
        if not np.array_equal(a, b, equal_nan=bool(inexact)):
            raise AssertionError(f"{message} (differs at {path or 'the value'})")


def differing(got: PyTree, expected: PyTree) -> str:
    """The path of the first leaf that differs by more than rounding, or ""."""
    for (path, a), (_, b) in zip(_named(got), _named(expected), strict=True):
        a, b = as_numpy(a), as_numpy(b)
        if not np.issubdtype(b.dtype, np.inexact):
            same = a.shape == b.shape and bool(np.all(a == b))
        else:
            same = a.shape == b.shape and np.allclose(a, b, rtol=2e-3, atol=1e-4, equal_nan=True)
        if not same:
            return path or "the value"
    return ""


def require_close(got: PyTree, expected: PyTree, message: str) -> None:
    """Requires equality up to the rounding of floats."""
    differs = differing(got, expected)
    require(not differs, f"{message} (at {differs})")


def require_finite(tree: PyTree, message: str) -> None:
    """Requires that no float of `tree` is NaN or infinite."""
    for path, leaf in _named(tree):
        values = as_numpy(leaf)
        if np.issubdtype(values.dtype, np.inexact) and not np.all(np.isfinite(values)):
            raise AssertionError(f"{message} is not finite (at {path or 'the value'})")


def within(space: Space, value: PyTree) -> bool:
    """Whether a batch of values lies in `space`, whatever the tests forbid of broadcasting."""
    with jax.numpy_rank_promotion("allow"):
        return contains(space, value)


def struct(shape: tuple[int, ...], dtype: str) -> Any:
    """A `jax.ShapeDtypeStruct`, whose constructor JAX leaves untyped."""
    make: Any = jax.ShapeDtypeStruct
    return make(shape, jnp.dtype(dtype))


def require_metrics(name: str, metrics: Any) -> None:
    """Requires `dict[str, scalar]`."""
    require(
        isinstance(metrics, dict)
        and all(isinstance(k, str) and v.shape == () for k, v in metrics.items()),
        f"{name}: metrics must be a dict of scalars by name, not {metrics}",
    )


def pick(tree: PyTree, index: Any) -> PyTree:
    """`x[index]` of every leaf, by NumPy where it can be: indexing in JAX compiles."""

    def choose(x: Any) -> Any:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return x[index] if is_key else jnp.asarray(np.asarray(x)[index])

    return jax.tree.map(choose, tree)


def last(tree: PyTree) -> PyTree:
    """The last seed, env or step of every leaf."""
    return pick(tree, -1)
