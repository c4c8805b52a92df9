"""Networks that agents share: torsos chosen by the shape of the observation, and their heads.

Convolutions are written as patches times a matrix. XLA's CPU backend takes a slow path for a
convolution inside a loop (40 times slower for small pictures), and all of this runs in loops.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.spaces import Box, Space, Symbolic, shape_dtype
from xplore.contracts.types import Key, PyTree
from xplore.parts.initializers import orthogonal
from xplore.parts.observations import cell_features, features

# A module of one's own takes a batch of observations and gives features: see `OwnTorso`.
Torso: TypeAlias = Literal["auto", "mlp", "cnn", "impala"] | nn.Module
Symbols = Literal["one_hot", "scaled", "embed"]
Activation = Literal["tanh", "relu", "swish"]

_TORSOS = ("auto", "mlp", "cnn", "impala")
_CPU_ROWS = {"mlp": 4096, "cnn": 256, "impala": 32, "own": 256}
_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "swish": nn.swish,
}


def activate(kind: Activation, x: jax.Array) -> jax.Array:
    """The activation of that name."""
    return _ACTIVATIONS[kind](x)


def is_picture(space: Space) -> bool:
    """Whether observations are `[H, W, C]`: a picture or a grid of symbols."""
    return isinstance(space, (Box, Symbolic)) and len(space.shape) == 3


def resolve_torso(torso: Torso, space: Space) -> Literal["mlp", "cnn", "impala", "own"]:
    """Resolves "auto": a CNN for `[H, W, C]` of at least 8x8 cells, else an MLP.

    The 7x7 view of MiniGrid falls to the MLP: it learns there at least as fast per step, and its
    steps cost a fifth.

    Raises:
        ConfigError: a CNN was asked for an observation that is no picture; there is no such torso;
            or a module cannot be part of a value.
    """
    if not isinstance(torso, str):
        return _own(torso)
    if torso not in _TORSOS:
        raise ConfigError(
            f"unknown torso {torso!r}{did_you_mean(torso, _TORSOS)}: one of {', '.join(_TORSOS)},"
            " or a flax module"
        )
    if torso == "mlp":
        return "mlp"
    side = min(space.shape[:2]) if is_picture(space) else 0  # type: ignore[union-attr]
    if torso != "auto" and side < 3:
        raise ConfigError(
            f"torso {torso!r} needs observations [H, W, C] of at least 3x3, not {space}: use 'mlp'"
        )
    if torso == "impala":
        return "impala"
    return "cnn" if torso == "cnn" or side >= 8 else "mlp"


def _own(torso: Any) -> Literal["own"]:
    if not isinstance(torso, nn.Module):
        name = getattr(torso, "__name__", repr(torso))
        made = f"an instance of it, {name}()" if isinstance(torso, type) else "a flax module"
        raise ConfigError(f"torso is {name}: give {made}, or one of {', '.join(_TORSOS)}")
    try:
        if torso.scope is None:  # one that is being applied holds variables
            hash(torso)
    except TypeError as error:
        raise ConfigError(
            f"torso {type(torso).__name__} has a field that cannot be hashed: use tuples, no lists"
        ) from error
    return "own"


def dense(size: int, scale: float = float(np.sqrt(2.0))) -> nn.Dense:
    """A dense layer with orthogonal weights and zero bias."""
    return nn.Dense(size, kernel_init=orthogonal(scale))


class PatchConv(nn.Module):
    """A convolution: `[B, H, W, C] -> [B, H', W', channels]`, by patches; no padding by default."""

    channels: int
    size: int = 3
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shifts = _shifts(_padded(x, self.padding, 0.0), self.size, self.stride)
        return dense(self.channels)(jnp.concatenate(shifts, axis=-1))


def _padded(x: jax.Array, padding: int, value: float) -> jax.Array:
    around = ((padding, padding), (padding, padding), (0, 0))
    return jnp.pad(x, ((0, 0),) * (x.ndim - 3) + around, constant_values=value) if padding else x


def _shifts(x: jax.Array, size: int, stride: int) -> list[jax.Array]:
    """Every place of a window `size` x `size` that goes over `x` by strides: `[B, H', W', C]`."""
    height = (x.shape[-3] - size) // stride + 1
    width = (x.shape[-2] - size) // stride + 1
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return [
        x[..., i : i + rows : stride, j : j + columns : stride, :]
        for i in range(size)
        for j in range(size)
    ]


class ImpalaCNN(nn.Module):
    """Three blocks of a convolution, a pool and two residual pairs: `[B, H, W, C] -> [B, D]`.

    The deeper torso of IMPALA without its last dense layer, for pictures in colour.

    Reference: Espeholt et al. (2018), arXiv:1802.01561.
    """

    channels: Sequence[int] = (16, 32, 32)
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for channels in self.channels:
            x = PatchConv(channels, padding=1)(x)
            # The largest of nine pictures: the gradient of a pool by windows is slow on a CPU.
            x = functools.reduce(jnp.maximum, _shifts(_padded(x, 1, -jnp.inf), 3, 2))
            for _ in range(2):
                y = PatchConv(channels, padding=1)(self._active(x))
                x = x + PatchConv(channels, padding=1)(self._active(y))
        return self._active(x).reshape(*x.shape[:-3], -1)

    def _active(self, x: jax.Array) -> jax.Array:
        return nn.relu(nn.LayerNorm()(x) if self.layer_norm else x)


class SymbolEmbed(nn.Module):
    """Sums one learned vector per symbol of a cell: `[..., H, W, C] -> [..., H, W, size]`."""

    space: Symbolic
    size: int = 8

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        cardinalities = self.space.cardinalities
        num_cells = math.prod(cardinalities)
        # The vectors of all possible cells are a small table, so that a cell is one look-up: three
        # times cheaper on a CPU, gradient included, than a product with one-hot symbols.
        cells = np.stack(np.unravel_index(np.arange(num_cells), cardinalities), axis=-1)
        whole = Symbolic((len(cardinalities),), cardinalities)
        one_hot = cell_features(whole, jnp.asarray(cells), "one_hot")
        table = nn.Dense(self.size, use_bias=False)(one_hot)
        strides = [math.prod(cardinalities[i + 1 :]) for i in range(len(cardinalities))]
        code = sum(obs[..., i].astype(jnp.int32) * s for i, s in enumerate(strides))
        return table[code]


class Encoder(nn.Module):
    """From a batch of observations to what a torso takes: cells for a CNN, a vector for an MLP."""

    space: Space
    symbols: Symbols
    keep_cells: bool

    @nn.compact
    def __call__(self, obs: PyTree) -> jax.Array:
        if isinstance(self.space, Symbolic) and self.symbols == "embed":
            cells = SymbolEmbed(self.space)(obs)
        elif self.keep_cells:
            assert isinstance(self.space, (Box, Symbolic))
            cells = cell_features(self.space, obs, _plain(self.symbols))
        else:
            return features(self.space, obs, _plain(self.symbols))
        if self.keep_cells:
            return cells
        rank = len(self.space.shape)
        return cells.reshape(*cells.shape[: cells.ndim - rank], -1)


def _plain(symbols: Symbols) -> Literal["one_hot", "scaled"]:
    # Inside a Dict observation there is no single grid to embed: its symbols are one-hot.
    return "scaled" if symbols == "scaled" else "one_hot"


class MLP(nn.Module):
    """Dense layers of `sizes`, each followed by the activation: `[..., D] -> [..., sizes[-1]]`."""

    sizes: Sequence[int]
    activation: Activation = "tanh"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.sizes:
            x = activate(self.activation, dense(size)(x))
        return x


class SmallCNN(nn.Module):
    """Two 3x3 convolutions of 16 and 32 channels (as many as fit): `[B, H, W, C] -> [B, D]`."""

    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for channels in (16, 32):
            if min(x.shape[-3:-1]) >= 3:
                x = PatchConv(channels)(x)
                x = nn.relu(nn.LayerNorm()(x) if self.layer_norm else x)
        return x.reshape(*x.shape[:-3], -1)


class OwnTorso(nn.Module):
    """A user's module: `obs [..., *space.shape] -> features [..., D]`.

    The module is called with one argument, a batch of observations as they are in the space (their
    dtypes, a dict of them for a `Dict`), leaves `[B, ...]`, and must give float32 `[B, D]`.

    Raises:
        ConfigError: it does not.
    """

    module: nn.Module
    space: Space

    def __call__(self, obs: PyTree) -> jax.Array:
        rank = len(jax.tree.leaves(shape_dtype(self.space))[0].shape)
        shape = jax.tree.leaves(obs)[0].shape
        lead = shape[: len(shape) - rank]
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) :]), obs)
        name, num_rows = type(self.module).__name__, math.prod(lead)
        try:
            x = self.module(rows)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"torso {name} cannot be called with observations [B, ...] of {self.space}:"
                f" {type(error).__name__}: {str(error).strip().splitlines()[0]}"
            ) from error
        fits = isinstance(x, jax.Array) and x.ndim == 2 and x.shape[0] == num_rows
        if not fits or not jnp.issubdtype(x.dtype, jnp.floating):
            found = f"{x.dtype}{list(x.shape)}" if isinstance(x, jax.Array) else type(x).__name__
            raise ConfigError(
                f"torso {name} gave {found} for {num_rows} observations: it must give float32"
                f" [{num_rows}, D], a row of features for each"
            )
        return x.reshape(*lead, -1)


class AsTheyAre(nn.Module):
    """Observations as they are: a module of one's own has its own encoder."""

    def __call__(self, obs: PyTree) -> PyTree:
        return obs


def torso_of(
    torso: Torso, space: Space, symbols: Symbols, layer_norm: bool = False
) -> tuple[nn.Module, nn.Module | None]:
    """What encodes observations, and what makes features of them, None for an MLP's.

    Behind such a module, whose features are already high-level, one dense layer is enough.
    """
    kind = resolve_torso(torso, space)
    if isinstance(torso, nn.Module):
        return AsTheyAre(), OwnTorso(torso, space)
    encoder = Encoder(space, symbols, keep_cells=kind != "mlp")
    if kind == "mlp":
        return encoder, None
    return encoder, (ImpalaCNN if kind == "impala" else SmallCNN)(layer_norm=layer_norm)


def cpu_rows(torso: Torso, space: Space) -> int:
    """Rows whose activations stay in the cache of a core."""
    return _CPU_ROWS[resolve_torso(torso, space)]


class ActorCritic(nn.Module):
    """Logits and values: `obs [B, ...] -> (logits [B, A], values [B, value_heads])`.

    With an MLP torso, actor and critic share nothing; any other torso is shared by both.
    """

    space: Space
    num_actions: int
    value_heads: int = 1
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: Sequence[int] = (64, 64)
    activation: Activation = "tanh"

    def setup(self) -> None:
        self.encoder, self.cnn = torso_of(self.torso, self.space, self.symbols)
        sizes = self.hidden_sizes if self.cnn is None else self.hidden_sizes[-1:]
        self.actor = MLP(sizes, self.activation)
        self.critic = MLP(sizes, self.activation)
        self.logits = dense(self.num_actions, 0.01)
        self.values = dense(self.value_heads, 1.0)

    def torso_features(self, obs: PyTree) -> jax.Array:
        x = self.encoder(obs)
        return x if self.cnn is None else self.cnn(x)

    def __call__(self, obs: PyTree) -> tuple[jax.Array, jax.Array]:
        x = self.torso_features(obs)
        return self.logits(self.actor(x)), self.values(self.critic(x))

    @property
    def cpu_rows(self) -> int:
        """Rows whose activations stay in the cache of a core."""
        return cpu_rows(self.torso, self.space)

    def value(self, obs: PyTree) -> jax.Array:
        """Values alone, `[B, value_heads]`."""
        return self.values(self.critic(self.torso_features(obs)))


def init_params(network: nn.Module, key: Key, space: Space) -> PyTree:
    """Parameters of a network that takes a batch of observations of `space`."""
    key_params, key_obs = jax.random.split(key)
    obs = jax.tree.map(lambda x: x[None], space.sample(key_obs))
    return network.init(key_params, obs)
