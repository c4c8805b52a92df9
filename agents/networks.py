"""Networks that agents share: torsos chosen by the shape of the observation, and their heads.

Convolutions are written as patches times a matrix. XLA's CPU backend takes a slow path for a
convolution inside a loop (40 times slower for small pictures), and all of this runs in loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Space, Symbolic
from xplore.contracts.types import Key, PyTree
from xplore.parts.initializers import orthogonal
from xplore.parts.observations import cell_features, features

Torso = Literal["auto", "mlp", "cnn"]
Symbols = Literal["one_hot", "scaled", "embed"]
Activation = Literal["tanh", "relu", "swish"]

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


def resolve_torso(torso: Torso, space: Space) -> Literal["mlp", "cnn"]:
    """Resolves "auto": a CNN for `[H, W, C]` of at least 8x8 cells, else an MLP.

    The 7x7 view of MiniGrid falls to the MLP: it learns there at least as fast per step, and its
    steps cost a fifth.

    Raises:
        ConfigError: a CNN was asked for an observation that is no picture.
    """
    if torso == "mlp":
        return "mlp"
    side = min(space.shape[:2]) if is_picture(space) else 0  # type: ignore[union-attr]
    if torso == "cnn" and side < 3:
        raise ConfigError(
            f"torso 'cnn' needs observations [H, W, C] of at least 3x3, not {space}: use 'mlp'"
        )
    return "cnn" if torso == "cnn" or side >= 8 else "mlp"


def dense(size: int, scale: float = float(np.sqrt(2.0))) -> nn.Dense:
    """A dense layer with orthogonal weights and zero bias."""
    return nn.Dense(size, kernel_init=orthogonal(scale))


class PatchConv(nn.Module):
    """A convolution without padding: `[B, H, W, C] -> [B, H', W', channels]`, by patches."""

    channels: int
    size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, s = self.size, self.stride
        height = (x.shape[-3] - k) // s + 1
        width = (x.shape[-2] - k) // s + 1
        shifts = [
            x[..., i : i + s * (height - 1) + 1 : s, j : j + s * (width - 1) + 1 : s, :]
            for i in range(k)
            for j in range(k)
        ]
        return dense(self.channels)(jnp.concatenate(shifts, axis=-1))


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


def torso_of(torso: Torso, space: Space, symbols: Symbols) -> tuple[Encoder, SmallCNN | None]:
    """What turns observations into features, and for pictures the CNN behind it.

    A CNN's features are already high-level: one dense layer on top is enough.
    """
    is_cnn = resolve_torso(torso, space) == "cnn"
    return Encoder(space, symbols, keep_cells=is_cnn), SmallCNN() if is_cnn else None


def cpu_rows(torso: Torso, space: Space) -> int:
    """Rows whose activations stay in the cache of a core."""
    return 256 if resolve_torso(torso, space) == "cnn" else 4096


class ActorCritic(nn.Module):
    """Logits and values: `obs [B, ...] -> (logits [B, A], values [B, value_heads])`.

    With an MLP torso, actor and critic share nothing; a CNN is shared by both.
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
