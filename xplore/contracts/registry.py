"""One registry: an id leads to a component, and a decorator is all it takes to be in it.

    @register_bonus("my_bonus")
    @component
    class MyBonus: ...

Discovery imports the folders of the plugs at the first look-up; an external package takes part
through an entry point in the group `xplore.plugins` whose module registers when imported. Besides
ids, `make_*` takes `path/to/file.py:name` for a component that lives in a user's own file, and
`make` takes `wrapper/ID`, an environment inside a registered wrapper, and `path/to/spec.toml`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

from xplore.contracts.errors import ConfigError, UnknownIdError, XploreError, did_you_mean
from xplore.contracts.types import Agent, Bonus, Environment, WorldSampler

F = TypeVar("F", bound=Callable[..., Any])

_PLUG_FOLDERS = ("xplore.envs", "xplore.agents", "xplore.bonuses", "xplore.worlds", "xplore.compat")
_KIND_NAMES = {
    "env": "environment",
    "agent": "agent",
    "bonus": "bonus",
    "worlds": "world sampler",
    "wrapper": "wrapper of environments",
}
ENTRY_POINT_GROUP = "xplore.plugins"


class Entry(NamedTuple):
    """A registered id: `factory(**kwargs)` makes the component."""

    kind: str
    id: str
    factory: Callable[..., Any]
    kwargs: dict[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]


_entries: dict[str, dict[str, Entry]] = {kind: {} for kind in _KIND_NAMES}
_readers: dict[str, Callable[[str], Any]] = {}  # by the end of a file's name


def _register(kind: str, id: str, kwargs: dict[str, Any]) -> Callable[[F], F]:
    def decorate(factory: F) -> F:
        taken = _entries[kind].get(id)
        if taken is not None and _origin(taken.factory) != _origin(factory):
            raise ConfigError(
                f"{_KIND_NAMES[kind]} id {id!r} is taken by {_origin(taken.factory)};"
                f" register {_origin(factory)} under another id"
            )
        _entries[kind][id] = Entry(kind, id, factory, kwargs)
        return factory

    return decorate


def _origin(factory: Callable[..., Any]) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


def register_env(id: str, /, **kwargs: Any) -> Callable[[F], F]:
    """Registers an environment class or factory under `id`, to be made with `kwargs`."""
    return _register("env", id, kwargs)


def register_env_wrapper(id: str, /, **kwargs: Any) -> Callable[[F], F]:
    """Registers a class or factory that wraps an environment, its first argument `env`.

    `make("id/ENV")` then makes the environment ENV inside it, with the options of both.
    """
    return _register("wrapper", id, kwargs)


def register_env_file(suffix: str, /) -> Callable[[F], F]:
    """Registers a function that makes an environment of a file whose name ends in `suffix`.

    `make("path/to/file.suffix")` then calls it with the path.
    """

    def decorate(reader: F) -> F:
        _readers[suffix] = reader
        return reader

    return decorate


def register_agent(id: str, /, **kwargs: Any) -> Callable[[F], F]:
    """Registers an agent class or factory under `id`, to be made with `kwargs`."""
    return _register("agent", id, kwargs)


def register_bonus(id: str, /, **kwargs: Any) -> Callable[[F], F]:
    """Registers a bonus class or factory under `id`, to be made with `kwargs`."""
    return _register("bonus", id, kwargs)


def register_world_sampler(id: str, /, **kwargs: Any) -> Callable[[F], F]:
    """Registers a world sampler class or factory under `id`, to be made with `kwargs`."""
    return _register("worlds", id, kwargs)


@functools.cache
def _discover() -> None:
    for folder in _PLUG_FOLDERS:
        package = importlib.import_module(folder)
        for module in pkgutil.walk_packages(package.__path__, folder + "."):
            importlib.import_module(module.name)
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        point.load()


def entries(kind: str) -> dict[str, Entry]:
    """All registered entries of a kind ("env", "agent", "bonus", "worlds", "wrapper"), by id."""
    _discover()
    return dict(sorted(_entries[kind].items()))


def find(kind: str, id: str) -> Entry:
    """The entry of `id`, which may be `path/to/file.py:name`, or a file such as `worlds.toml`.

    Raises:
        UnknownIdError: nothing is registered under `id`; names the closest ids.
    """
    path, separator, name = id.rpartition(":")
    if separator and path.endswith(".py"):
        return _from_file(kind, id, Path(path), name)
    known = entries(kind)
    if id in known:
        return known[id]
    if kind == "env" and Path(id).suffix in _readers:
        return _read(id)
    prefix, _, inner = id.partition("/")
    if kind == "env" and inner and prefix in entries("wrapper"):
        return _wrapped(id, entries("wrapper")[prefix], find("env", inner))
    raise UnknownIdError(
        f"unknown {_KIND_NAMES[kind]} {id!r}{did_you_mean(id, known)} (`xplore list` shows all)"
    )


def _read(id: str) -> Entry:
    """The entry of an environment that a file describes: all its options are in the file."""

    def factory() -> Any:
        return _readers[Path(id).suffix](id)

    return Entry("env", id, factory, {})


def _wrapped(id: str, wrapper: Entry, inner: Entry) -> Entry:
    """The entry of an environment inside a wrapper: its options are those of both."""
    own = list(inspect.signature(wrapper.factory).parameters.values())[1:]
    names = {p.name for p in own}
    theirs = inspect.signature(inner.factory).parameters.values()

    def factory(**options: Any) -> Any:
        mine = {k: v for k, v in options.items() if k in names}
        rest = {k: v for k, v in options.items() if k not in names}
        return wrapper.factory(inner.factory(**rest), **mine)

    both = [*own, *(p for p in theirs if p.name not in names)]
    factory.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=p.KEYWORD_ONLY) if p.kind is not p.VAR_KEYWORD else p for p in both]
    )
    hints = [typing.get_type_hints(x.factory) for x in (inner, wrapper)]
    factory.__annotations__ = {**hints[0], **hints[1]}
    factory.__doc__ = "\n\n".join(inspect.getdoc(x.factory) or "" for x in (wrapper, inner))
    return Entry("env", id, factory, {**inner.kwargs, **wrapper.kwargs})


def _from_file(kind: str, id: str, path: Path, name: str) -> Entry:
    module = _load_file(path.resolve())
    # What the file registered under that name wins over a bare attribute of the same name.
    if name in _entries[kind] and _entries[kind][name].factory.__module__ == module.__name__:
        return _entries[kind][name]._replace(id=id)
    factory = getattr(module, name, None)
    if not callable(factory):
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownIdError(
            f"{path} defines no {_KIND_NAMES[kind]} {name!r}{did_you_mean(name, public)}"
        )
    return Entry(kind, id, factory, {})


@functools.cache
def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UnknownIdError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(f"xplore_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except XploreError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _make(kind: str, id: str, overrides: dict[str, Any]) -> Any:
    entry = find(kind, id)
    options = list(inspect.signature(entry.factory).parameters.values())
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in options):
        known = [p.name for p in options]
        for name in overrides:
            if name not in known:
                raise ConfigError(
                    f"{_KIND_NAMES[kind]} {id!r} has no option {name!r}{did_you_mean(name, known)}"
                    f" (its options: {', '.join(known) or 'none'})"
                )
    made = entry.factory(**{**entry.kwargs, **overrides})
    protocol = {"env": Environment, "agent": Agent, "bonus": Bonus, "worlds": WorldSampler}[kind]
    if not isinstance(made, protocol):
        missing = [m for m in _methods(protocol) if not callable(getattr(made, m, None))]
        raise ConfigError(
            f"{id!r} made a {type(made).__name__}, which is no {_KIND_NAMES[kind]}:"
            f" it lacks {', '.join(missing)}"
        )
    return made


def _methods(protocol: type) -> Iterable[str]:
    return (n for n, v in vars(protocol).items() if inspect.isfunction(v) and not n.startswith("_"))


def make(id: str, /, **overrides: Any) -> Environment:
    """Makes the environment registered under `id`, with some of its options changed.

    >>> make("DeepSea-10-v0").spec().max_steps
    10
    """
    return cast(Environment, _make("env", id, overrides))


def make_agent(id: str, /, **overrides: Any) -> Agent:
    """Makes the agent registered under `id`, with some of its options changed."""
    return cast(Agent, _make("agent", id, overrides))


def make_bonus(id: str, /, **overrides: Any) -> Bonus:
    """Makes the bonus registered under `id`, with some of its options changed."""
    return cast(Bonus, _make("bonus", id, overrides))


def make_world_sampler(id: str, /, **overrides: Any) -> WorldSampler:
    """Makes the world sampler registered under `id`, with some of its options changed."""
    return cast(WorldSampler, _make("worlds", id, overrides))


def list_envs() -> list[str]:
    """Ids of all registered environments."""
    return list(entries("env"))


def list_agents() -> list[str]:
    """Ids of all registered agents."""
    return list(entries("agent"))


def list_bonuses() -> list[str]:
    """Ids of all registered bonuses."""
    return list(entries("bonus"))


def list_world_samplers() -> list[str]:
    """Ids of all registered world samplers."""
    return list(entries("worlds"))
