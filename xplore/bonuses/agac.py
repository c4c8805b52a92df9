"""Adversarially guided actor-critic: doing what an observer of one's habits does not expect."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from xplore.bonuses.combinators import Anneal, Scale, Sum
from xplore.bonuses.episodic_count import EpisodicCount
from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Bonus, Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.cells import CellKey, Cells
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted
from xplore.parts.inputs import InputState, init_inputs, inputs_of, num_inputs, observe_inputs
from xplore.parts.predictors import MLP, Inputs


class AdversaryState(NamedTuple):
    """What the adversary sees, and the network that tells actions from it."""

    inputs: InputState
    adversary: Fitted


@final
@component
class Adversary:
    """`r = log pi(a|o) - log pi_adv(a|o)`, pi_adv trained to tell what the agent does.

    `log pi` is what the agent left in `Trajectory.extras.log_prob`. An agent that leaves nothing
    at all is taken to draw actions uniformly, as `random` does; one that leaves other things is
    refused when the first rollout is scored, since a bonus does not see its agent before.

    In the mean r is the divergence KL(pi | pi_adv); of single actions it may be negative. The
    adversary starts by expecting all actions alike, so that at first r is `log pi(a|o) + log A`: 0
    to who draws actions uniformly, and to who has habits the more, until they are known.
    """

    hidden_size: int = 64
    learning_rate: float = 3e-4
    update_fraction: float = static(default=0.5)
    num_minibatches: int = 8
    inputs: Inputs = "codes"

    def __post_init__(self) -> None:
        if not 0 < self.update_fraction <= 1:
            raise ConfigError(f"agac(update_fraction={self.update_fraction}): must be in (0, 1]")
        for name in ("hidden_size", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"agac({name}={getattr(self, name)}): must be at least 1")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> AdversaryState:
        if not isinstance(spec.env.action, Discrete):
            raise ConfigError(
                f"agac predicts discrete actions; {spec.env.name} has {spec.env.action}:"
                " choose an environment with discrete actions, or another bonus"
            )
        key_inputs, key_adversary = jax.random.split(key)
        inputs = init_inputs(key_inputs, spec.env.observation, self.inputs)
        network = self._network(spec.env.action.num)
        # The last layer starts at 0: an adversary that has seen nothing expects anything.
        params: PyTree = network.init(key_adversary, jnp.zeros(num_inputs(inputs)))
        last = f"Dense_{len(network.sizes) - 1}"
        blank = jax.tree.map(jnp.zeros_like, params["params"][last])
        params = {"params": {**params["params"], last: blank}}
        return AdversaryState(inputs, init_fitted(params, self.learning_rate))

    def reward(self, state: AdversaryState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        log_policy = self._log_policy(state, traj)
        state = state._replace(inputs=observe_inputs(state.inputs, traj.obs))

        def expected(x: tuple[PyTree, jax.Array]) -> jax.Array:
            obs, action = x
            return -self._surprise(state, state.adversary.params, obs, action)

        numbers = num_inputs(state.inputs) + self.hidden_size
        log_adversary = map_time(expected, (traj.obs, traj.action), numbers)
        return state, log_policy - log_adversary

    def update(self, key: Key, state: AdversaryState, traj: Trajectory) -> tuple[PyTree, Metrics]:
        def loss(params: PyTree, rows: PyTree, key: Key) -> tuple[jax.Array, Metrics]:
            surprise = jnp.mean(self._surprise(state, params, *rows))
            return surprise, {"adversary_loss": surprise}

        adversary, metrics = fit(
            key,
            state.adversary,
            loss,
            flatten_rollout((traj.obs, traj.action)),
            learning_rate=self.learning_rate,
            fraction=self.update_fraction,
            num_minibatches=self.num_minibatches,
        )
        return state._replace(adversary=adversary), metrics

    def _log_policy(self, state: AdversaryState, traj: Trajectory) -> jax.Array:
        kept = traj.extras
        log_prob: jax.Array | None = (
            kept.get("log_prob") if isinstance(kept, dict) else getattr(kept, "log_prob", None)
        )
        if log_prob is not None:
            return log_prob
        if jax.tree.leaves(traj.extras):
            raise ConfigError(
                "agac needs the log-probability of actions, and this agent leaves none in its"
                " extras: choose an agent that does, such as ppo, or another bonus"
            )
        return jnp.full(traj.reward.shape, -jnp.log(float(self._num_actions(state))))

    def _surprise(
        self, state: AdversaryState, params: PyTree, obs: PyTree, action: jax.Array
    ) -> jax.Array:
        network = self._network(self._num_actions(state))
        logits: jax.Array = network.apply(params, inputs_of(state.inputs, obs))  # type: ignore[assignment]
        return optax.softmax_cross_entropy_with_integer_labels(logits, action)

    def _network(self, num_actions: int) -> MLP:
        return MLP((self.hidden_size, self.hidden_size, num_actions))

    @staticmethod
    def _num_actions(state: AdversaryState) -> int:
        return int(state.adversary.params["params"]["Dense_2"]["bias"].shape[0])


@register_bonus("agac")
def agac(
    coefficient: float = 4e-4,
    anneal_steps: int = 0,
    count_coefficient: float = 0.0,
    key: CellKey = "observation",
    table_size: int = 1 << 12,
    learning_rate: float = 3e-4,
    hidden_size: int = 64,
    update_fraction: float = 0.5,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Sum:
    """Adversarially guided actor-critic: `r = coefficient (log pi(a|o) - log pi_adv(a|o))`.

    Args:
        coefficient: of the log-ratio.
        anneal_steps: env steps over which it falls to 0 in a line; 0: it is constant.
        count_coefficient: adds `count_coefficient / sqrt(N_ep(s'))`; the published codes have
            0.0125 and 0.1, and most hard tasks are reported with it.
        key: what is counted: a key of `xplore.parts.cells.Cells`.
        table_size: rows of the hashed table of counts, a power of two, per env.
        learning_rate: of the adversary's Adam; the paper's is 0.3 of the policy's.
        hidden_size: width of the adversary's two hidden layers.
        update_fraction: part of each rollout it learns from.
        num_minibatches: its gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Flet-Berliac et al. (2021), Adversarially guided actor-critic, arXiv:2102.04376.

    Deviations from the paper: the log-ratio is a reward, discounted and estimated like any other,
    where the paper adds it to the advantage of its step alone, and the divergence to the target of
    the value; constant unless `anneal_steps` is given; the adversary learns from actions taken
    (the divergence in the mean), and sees observations one by one.
    """
    adversary = Adversary(hidden_size, learning_rate, update_fraction, num_minibatches, inputs)
    ratio: Bonus = Scale(adversary, coefficient)
    if anneal_steps:
        ratio = Anneal(ratio, num_steps=anneal_steps)
    terms: tuple[Bonus, ...] = (ratio,)
    if not isinstance(count_coefficient, float) or count_coefficient != 0.0:
        terms += (Scale(EpisodicCount(Cells(key, table_size)), count_coefficient),)
    return Sum(terms)
