"""A family's distribution of levels as a file of TOML.

env = "Maze-Perfect-13x13-v0"    # the id of a family

[options]                        # its options, as of `xplore run ENV --env.OPTION`
size = 15
view = { image = "full" }

[ranges]                         # options that are drawn anew for each level
braid = [0.0, 1.0]
"""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, cast

from xplore.contracts import registry
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.types import WorldFamily
from xplore.envs.families.varied import Varied

_PARTS = ("env", "options", "ranges")


@registry.register_env_file(".toml")
def load_spec(path: Path | str) -> WorldFamily:
    """The family that a file describes.

    Raises:
        ConfigError: the file cannot be read, or says something that cannot be; names what.
        UnknownIdError: `env` is not registered.
    """
    try:
        said = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    try:
        return family(said)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def family(said: dict[str, Any]) -> WorldFamily:
    """The family that `said`, the content of such a file, describes.

    >>> family({"env": "Maze-Perfect-13x13-v0", "options": {"size": 9}}).spec().name
    'Maze-Kruskal-9x9'

    Raises:
        ConfigError: it says something that cannot be; names what.
        UnknownIdError: `env` is not registered.
    """
    for name in said:
        if name not in _PARTS:
            raise ConfigError(
                f"unknown part {name!r}{did_you_mean(name, _PARTS)} (parts: {', '.join(_PARTS)})"
            )
    if not isinstance(said.get("env"), str):
        raise ConfigError('env is missing: name a family, such as env = "Maze-Perfect-13x13-v0"')
    options, ranges = (_table(said, name) for name in ("options", "ranges"))
    entry = registry.find("env", said["env"])
    hints = typing.get_type_hints(entry.factory)
    if inspect.isclass(entry.factory):
        hints = typing.get_type_hints(entry.factory.__init__)
    # An unknown option is refused, with the closest names, by `make`.
    typed = {k: _typed(k, v, hints[k]) if k in hints else v for k, v in options.items()}
    env = registry.make(said["env"], **typed)
    if not isinstance(env, WorldFamily):
        raise ConfigError(f"{said['env']} is no family of levels that can be edited and solved")
    if not ranges:
        return env
    for name, bounds in ranges.items():
        if not isinstance(bounds, list) or len(bounds) != 2 or not all(map(_is_number, bounds)):
            raise ConfigError(f"the range of {name} is {bounds!r}: give [least, greatest]")
    low, high = zip(*ranges.values(), strict=True)
    return cast(WorldFamily, Varied(env, tuple(ranges), low, high))


def _table(said: dict[str, Any], name: str) -> dict[str, Any]:
    found = said.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{name} is {found!r}: it must be a table, [{name}]")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _typed(name: str, value: Any, hint: Any) -> Any:
    """`value` as what `hint` says; a table becomes the component that is expected there."""
    members = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (types.UnionType, typing.Union)
        else (hint,)
    )
    for member in members:
        if dataclasses.is_dataclass(member) and isinstance(value, dict):
            made = cast(Any, member)
            hints, known = typing.get_type_hints(made), [f.name for f in dataclasses.fields(made)]
            for key in value:
                if key not in known:
                    raise ConfigError(
                        f"{name} has no option {key!r}{did_you_mean(key, known)}"
                        f" (its options: {', '.join(known)})"
                    )
            return made(**{k: _typed(f"{name}.{k}", v, hints[k]) for k, v in value.items()})
        if typing.get_origin(member) is typing.Literal and isinstance(value, str):
            return value  # the component refuses what is not among them
        if member is float and _is_number(value):
            return float(value)
        if member in (int, str, bool) and type(value) is member:
            return value
    names = [getattr(m, "__name__", str(m)) for m in members if m is not types.NoneType]
    expected = " or ".join("a table" if n == "View" else n for n in names)
    raise ConfigError(f"{name} is {value!r}: it must be {expected.replace('Literal', 'str')}")
