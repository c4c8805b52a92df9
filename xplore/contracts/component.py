"""A component is a value: a frozen dataclass that is also a pytree.

Every environment, agent, bonus and world sampler is declared with `component`. Fields annotated
with a float, an array or another component are pytree children, so `vmap` over a coefficient works;
every other field (int, bool, str, callable, ...) is static, so equal constructions hash equal and
share one compilation.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast, dataclass_transform

import jax

from xplore.contracts.errors import ConfigError, did_you_mean

T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A field that is static whatever its annotation: a hashable part of the compiled program."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def later(*, default: Any, static: bool = False) -> Any:
    """A field that a class has not had from the start; at `default`, `to_json` leaves it out.

    So a config from before there was the field is still that config, with the fingerprint that its
    rows are filed under. `default` must do what was done without the field.

    >>> @component
    ... class Shifted:
    ...     by: float = 1.0
    ...     scale: float = later(default=0.0)
    >>> [sorted(to_json(x)) for x in (Shifted(), Shifted(scale=2.0))]
    [['by', 'kind'], ['by', 'kind', 'scale']]
    """
    return dataclasses.field(default=default, metadata={"static": static, "later": True})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static, later))
def component(cls: type[T]) -> type[T]:
    """Declares `cls` a component: frozen, hashable, a registered pytree, JSON-able.

    An int given for a float field becomes a float, so that `Scaled(1)` and `Scaled(1.0)` are the
    same value and share one compilation. `__post_init__`, where defined, checks what the user
    passed; it does not run when JAX rebuilds the value inside a transformation.

    >>> @component
    ... class Scaled:
    ...     coefficient: float = 1.0
    ...     size: int = 4
    >>> jax.tree.leaves(Scaled(2))
    [2.0]
    >>> hash(Scaled(1)) == hash(Scaled(1.0))
    True
    """
    check: Callable[[Any], None] | None = cls.__dict__.get("__post_init__")

    def post_init(self: Any) -> None:
        for name in _float_fields(self.__class__):
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, name, float(value))
        if check is not None:
            check(self)

    cls.__post_init__ = post_init  # type: ignore[attr-defined]
    cls.__is_xplore_component__ = True  # type: ignore[attr-defined]
    made: Any = dataclasses.dataclass(frozen=True)(cls)
    if any(field.name == "kind" for field in dataclasses.fields(made)):
        raise ConfigError(
            f"component {cls.__name__} has a field 'kind', which is what JSON calls its class: give"
            " the field another name"
        )

    def flatten_with_keys(x: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        children, statics = split_fields(made)
        keyed = [(jax.tree_util.GetAttrKey(n), getattr(x, n)) for n in children]
        return keyed, tuple(getattr(x, n) for n in statics)

    def unflatten(aux: tuple[Any, ...], leaves: Any) -> Any:
        # Bypasses __init__: JAX unflattens with tracers and sentinels, which no check would accept.
        children, statics = split_fields(made)
        x = object.__new__(made)
        for name, value in zip(children + statics, (*leaves, *aux), strict=True):
            object.__setattr__(x, name, value)
        return x

    jax.tree_util.register_pytree_with_keys(made, flatten_with_keys, unflatten)
    return cast(type[T], made)


def is_component(x: object) -> bool:
    """Whether `x` is an instance of a class declared with `component`."""
    return not isinstance(x, type) and getattr(type(x), "__is_xplore_component__", False) is True


@functools.cache
def split_fields(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of the pytree children and of the static fields of a component class."""
    hints = typing.get_type_hints(cls)
    children: list[str] = []
    statics: list[str] = []
    for field in dataclasses.fields(cls):
        dynamic = not field.metadata.get("static") and _is_dynamic(hints[field.name])
        (children if dynamic else statics).append(field.name)
    return tuple(children), tuple(statics)


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple, list):
        return typing.get_args(hint)
    return ()


def _is_dynamic(hint: Any) -> bool:
    if members := _members(hint):
        return any(_is_dynamic(m) for m in members)
    if not isinstance(hint, type):
        return False
    if issubclass(hint, (float, jax.Array)):
        return True
    # A plug's Protocol stands for the component that will be put there.
    return bool(
        getattr(hint, "__is_xplore_component__", False) or getattr(hint, "_is_protocol", False)
    )


@functools.cache
def _float_fields(cls: Any) -> tuple[str, ...]:
    hints = typing.get_type_hints(cls)
    children, _ = split_fields(cls)
    return tuple(n for n in children if hints[n] is float or float in _members(hints[n]))


def replace(x: T, **changes: Any) -> T:
    """`dataclasses.replace`, with a clear error for an option that does not exist.

    Raises:
        ConfigError: a name in `changes` is not a field of `x`; names the closest.
    """
    known = [f.name for f in dataclasses.fields(x)]  # type: ignore[arg-type]
    for name in changes:
        if name not in known:
            raise ConfigError(
                f"{type(x).__name__} has no option {name!r}{did_you_mean(name, known)}"
                f" (its options: {', '.join(known)})"
            )
    return dataclasses.replace(x, **changes)  # type: ignore[type-var]


def to_json(x: Any) -> Any:
    """Turns a component, nested ones included, into JSON data with a `kind` for every class.

    >>> from xplore.contracts.spaces import Discrete
    >>> to_json(Discrete(4))
    {'kind': 'xplore.contracts.spaces:Discrete', 'num': 4}
    """
    if isinstance(x, type) or (callable(x) and not dataclasses.is_dataclass(x)):
        return {"kind": "reference", "name": f"{x.__module__}:{x.__qualname__}"}
    if dataclasses.is_dataclass(x):
        # What is left out of its repr, such as the parent of a flax module, is no part of a value.
        shown = (f for f in dataclasses.fields(x) if f.init and f.repr)
        values = {f.name: getattr(x, f.name) for f in shown if not _left_out(f, getattr(x, f.name))}
        fields = {name: to_json(value) for name, value in values.items()}
        return {"kind": f"{type(x).__module__}:{type(x).__qualname__}", **fields}
    if isinstance(x, dict):
        return {k: to_json(v) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        return [to_json(v) for v in x]
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    return jax.device_get(x).tolist()


def _left_out(field: Any, value: Any) -> bool:
    """Whether this is a default that is not written: see `later`; or one that no name leads to.

    Such is an initialiser of a flax layer.
    """
    if field.metadata.get("later") and isinstance(value, type(field.default)):
        return bool(value == field.default)
    return value is field.default and "<locals>" in getattr(value, "__qualname__", "")


def from_json(data: Any) -> Any:
    """Rebuilds what `to_json` wrote; lists come back as tuples, since components are hashable.

    Raises:
        ConfigError: a `kind` names a class that cannot be imported.
    """
    if isinstance(data, list):
        return tuple(from_json(v) for v in data)
    if not isinstance(data, dict):
        return data
    fields = {k: from_json(v) for k, v in data.items() if k != "kind"}
    kind = data.get("kind")
    if kind is None:
        return fields
    return _resolve(fields["name"]) if kind == "reference" else _resolve(kind)(**fields)


def _resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot import {path!r}, which the stored config names") from error
    return found
