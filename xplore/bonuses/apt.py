"""Entropy of what is visited by nearest neighbours, in an embedding that is learned."""

from __future__ import annotations

from xplore.bonuses.combinators import Normalise, Scale
from xplore.bonuses.re3 import ParticleEntropy
from xplore.contracts.registry import register_bonus
from xplore.parts.dynamics import Dynamics, Encoding
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import Inputs


@register_bonus("apt")
def apt(
    coefficient: float = 0.01,
    num_neighbours: int = 12,
    num_anchors: int = 256,
    encoding: Encoding = "inverse",
    decay: float = 0.0,
    normaliser: NormaliserKind = "std",
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Active pre-training: `r = coefficient log(1 + mean_k |phi - phi_k| / scale)`, learned phi.

    Args:
        coefficient: of the normalised bonus.
        num_neighbours: k, over which distances are averaged.
        num_anchors: observations of a rollout that neighbours are sought among.
        encoding: what phi learns from: `inverse`, `discriminator`; `random` (nothing).
        decay: the bonus is multiplied by `(1 - decay)^t`, t the steps each env has taken.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        learning_rate: of Adam.
        hidden_size: width of all networks.
        embedding_size: of phi.
        update_fraction: part of each rollout that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Liu and Abbeel (2021), Behavior from the void: Unsupervised active pre-training,
    arXiv:2103.04551; with an inverse model: Laskin et al. (2021), URLB, arXiv:2110.15191.

    Deviations from the papers: phi learns from actions, not by contrasting augmented pictures;
    neighbours are sought in the rollout, not in a replay buffer, so that what was seen long ago is
    new again; the bonus is divided by its std.
    """
    dynamics = Dynamics(
        encoding=encoding,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        learning_rate=learning_rate,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    core = ParticleEntropy(
        dynamics, num_neighbours, num_anchors, neighbours="mean", relative=True, decay=decay
    )
    return Scale(Normalise(core, normaliser), coefficient)
