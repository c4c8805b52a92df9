"""`xplore play`: a person, or a script, is the agent."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import tyro

from xplore.cli.console import Console
from xplore.cli.glyphs import Glyphs, glyphs_for
from xplore.cli.options import chosen, leading, parse, with_plugs
from xplore.cli.textview import view
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.registry import make
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Environment
from xplore.parts.levels import level_from_id, train_ids

_COMMANDS = {"r": "again", "n": "next level", "q": "quit"}
_ESCAPES = {"[A": "up", "[B": "down", "[C": "right", "[D": "left"}
_NAMED = {" ": "space", "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace"}


@dataclasses.dataclass(frozen=True)
class PlayOptions:
    """Plays an environment in the terminal: what you see is what an agent sees."""

    env: Annotated[str, tyro.conf.Positional]
    """id of the environment"""
    level: int = 0
    """number of the first level"""
    script: str | None = None
    """actions to take instead of reading keys: numbers, names or keys, separated by spaces"""


class Game:
    """One environment under way, on levels that follow each other."""

    def __init__(self, env: Environment, level: int) -> None:
        action = env.spec().action
        if not isinstance(action, Discrete):
            raise ConfigError(
                f"{env.spec().name} has actions that are not Discrete: nobody can type them"
            )
        self.spec, self.num_actions, self.level = env.spec(), action.num, level
        self._key = jax.random.key(level)

        def reset(key: jax.Array, index: jax.Array) -> Any:
            return env.reset_to_level(key, level_from_id(env, train_ids(0, index)))

        self._reset, self._step = jax.jit(reset), jax.jit(env.step)
        self.reset()

    def reset(self) -> None:
        """To the start of the current level."""
        self._key, key = jax.random.split(self._key)
        self._state, self.obs = self._reset(key, jax.numpy.uint32(self.level))
        self.steps, self.total, self.reward, self.outcome = 0, 0.0, 0.0, ""

    def step(self, action: int) -> None:
        """One transition; nothing happens after the end of an episode."""
        if self.outcome:
            return
        self._key, key = jax.random.split(self._key)
        self._state, ts = self._step(key, self._state, jax.numpy.int32(action))
        self.obs, self.reward = ts.obs, float(ts.reward)
        self.steps, self.total = self.steps + 1, self.total + self.reward
        if bool(ts.terminated) or bool(ts.truncated):
            kind = "terminated" if bool(ts.terminated) else "truncated"
            success = ", success" if bool(ts.info.get("success", False)) else ""
            self.outcome = kind + success


def play(args: Sequence[str]) -> None:
    """`xplore play ENV`."""
    prog = "xplore play"
    id = leading(args, "env", prog)
    cls = with_plugs(PlayOptions, {"env": id}, args) if id else PlayOptions
    options = parse(cls, args, prog=prog)
    game = Game(make(options.env, **chosen(options, "env")), options.level)
    glyphs = glyphs_for(game.spec.name)
    console = Console()
    console.print(_legend(game, glyphs))
    if options.script is not None:
        _follow(game, glyphs, console, iter(options.script.split()))
    elif not sys.stdin.isatty():
        _follow(game, glyphs, console, (word for line in sys.stdin for word in line.split()))
    else:
        _interact(game, glyphs, console)


def _legend(game: Game, glyphs: Glyphs) -> str:
    names = glyphs.actions[: game.num_actions]
    actions = ", ".join(f"{i}={n}" for i, n in enumerate(names)) or f"0 to {game.num_actions - 1}"
    keys = ", ".join(
        f"{key}={names[action]}" for key, action in glyphs.keys.items() if action < len(names)
    )
    commands = ", ".join(f"{key}={what}" for key, what in _COMMANDS.items())
    return f"{game.spec.name}\nactions: {actions}\nkeys: {keys + ', ' if keys else ''}{commands}"


def _action(word: str, game: Game, glyphs: Glyphs) -> int | None:
    if word.isdecimal() and int(word) < game.num_actions:
        return int(word)
    names = glyphs.actions[: game.num_actions]
    # Upstream's names come first: `left` in a script is the action, as it is the key.
    found = names.index(word) if word in names else glyphs.keys.get(word)
    return found if found is not None and found < game.num_actions else None


def _show(game: Game, glyphs: Glyphs, console: Console) -> None:
    console.print(view(game.spec.observation, jax.device_get(game.obs), glyphs), soft_wrap=True)
    line = f"step {game.steps}  reward {game.reward:g}  return {game.total:.4g}"
    console.print(f"{line}  {game.outcome}".rstrip())


def _command(word: str, game: Game) -> None:
    game.level += word == "n"
    game.reset()


def _follow(game: Game, glyphs: Glyphs, console: Console, words: Iterator[str]) -> None:
    """Takes scripted actions; an ended episode is followed by the next level."""
    _show(game, glyphs, console)
    for word in words:
        if word == "q":
            return
        if word in _COMMANDS:
            _command(word, game)
        else:
            action = _action(word, game, glyphs)
            if action is None:
                known = [*glyphs.actions, *glyphs.keys, *_COMMANDS]
                raise ConfigError(
                    f"{word!r} is no action of {game.spec.name}, which has 0 to"
                    f" {game.num_actions - 1}{did_you_mean(word, known)}"
                )
            if game.outcome:
                _command("n", game)
            game.step(action)
        _show(game, glyphs, console)


def _interact(game: Game, glyphs: Glyphs, console: Console) -> None:
    _show(game, glyphs, console)
    with _raw_keys() as read:
        while True:
            word = read()
            if word == "q":
                return
            if word in _COMMANDS:
                _command(word, game)
            elif (action := _action(word, game, glyphs)) is not None:
                game.step(action)
            else:
                continue
            console.clear()
            _show(game, glyphs, console)
            if game.outcome:
                console.print(", ".join(f"{key}={what}" for key, what in _COMMANDS.items()))


@contextlib.contextmanager
def _raw_keys() -> Iterator[Callable[[], str]]:
    """A function that waits for one key and names it."""
    import termios  # not on every system: only where a terminal is played on
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda: name_key(sys.stdin.read)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def name_key(read: Callable[[int], str]) -> str:
    """Reads one key press, `read(n)` characters at a time, and names it.

    >>> import io
    >>> [name_key(io.StringIO(typed).read) for typed in (" ", "a", chr(27) + "[D", "")]
    ['space', 'a', 'left', 'q']
    """
    char = read(1)
    if char == "":
        return "q"
    if char == "\x1b":
        return _ESCAPES.get(read(2), "escape")
    return _NAMED.get(char, char)
