"""E3B times NovelD: outside this episode's ellipse, and beyond the border of the known."""

from __future__ import annotations

from xplore.bonuses.combinators import Normalise, Product, Scale
from xplore.bonuses.e3b import E3B, Features
from xplore.bonuses.noveld import NovelD
from xplore.bonuses.rnd import RND
from xplore.contracts.registry import register_bonus
from xplore.parts.dynamics import Dynamics, Encoding
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import Inputs


@register_bonus("e3b_x_noveld")
def e3b_x_noveld(
    coefficient: float = 0.05,
    alpha: float = 0.1,
    ridge: float = 0.1,
    features: Features = "embedding",
    encoding: Encoding = "inverse",
    normaliser: NormaliserKind = "std",
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """E3B times NovelD: `r = coefficient phi^T C^-1 phi max(n(s') - alpha n(s), 0)`, normalised.

    Args:
        coefficient: of the normalised product.
        alpha: how much of the novelty of where one comes from is taken off; 0: E3B times RND.
        ridge: lambda, `C = lambda I` before an episode.
        features: `embedding`, or `position` (one-hot): then E3B is an episodic count.
        encoding: what phi learns from: `inverse`, `random` (nothing), `discriminator`.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        learning_rate: of Adam, for embedding and novelty.
        hidden_size: width of all networks.
        embedding_size: of phi, and of what novelty predicts.
        update_fraction: part of each rollout that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Henaff, Jiang and Raileanu (2023), A study of global and episodic bonuses for
    exploration in contextual MDPs, arXiv:2306.03236.

    Deviations from the paper: those of `e3b` and `noveld`; the product is divided by its std.
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
    novelty = RND(
        hidden_size=hidden_size,
        embedding_size=embedding_size,
        learning_rate=learning_rate,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    product = Product((E3B(dynamics, ridge, features), NovelD(novelty, alpha)))
    return Scale(Normalise(product, normaliser), coefficient)
