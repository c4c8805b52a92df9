"""A tree search by the environment itself."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.agents.networks import Activation, Symbols, Torso
from xplore.agents.search.learning import SearchState, first_state, learn
from xplore.agents.search.plan import (
    Arrival,
    Extras,
    Policy,
    check_options,
    novelty,
    rows_of,
    search,
)
from xplore.agents.search.targets import foresee_obs, taken
from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Environment, Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.play import select


class Node(NamedTuple):
    """Where a search is: the env state `[N, ...]`, what is seen, whether the episode is over.

    After an episode's end nothing moves: where it `terminated` the task is worth nothing, where a
    time limit cut it the value stays that of what was seen; exploring goes on at a start.
    """

    state: PyTree
    obs: PyTree
    ended: jax.Array
    terminated: jax.Array


@register_agent("alphazero")
@final
@component
class AlphaZero:
    """Acts by a tree search of `num_simulations` steps of the environment itself: privileged.

    A leaf is worth V(o), learned from lambda-returns of replayed rollouts; the policy is learned
    from the search's. To explore, a simulated step earns novelty_bonus / sqrt(1 + N(o, a)) more, by
    the visits of real steps (observations are told apart by a hash), and V has a part of its own
    for that and the intrinsic reward, of which a replayed step gets what it is worth by now. That
    part does not end with an episode: what follows is worth what it is at starts.

    Steps of the environment that searches make are in the metric "model_steps", not in the budget.
    Where it is not given the environment it acts by the policy alone. `greedy()` searches for the
    reward of the task, without noise.

    Attributes:
        policy: "gumbel" (sequential halving at the root, by completed values inside) or "puct".
        num_simulations: steps of the environment for each real step.
        dirichlet_fraction: part of the root's policy that is noise, with "puct".
        temperature: actions are drawn in proportion to visits^(1 / temperature), with "puct".
        novelty_bonus: 0: it explores by the search's noise alone.
        discount: gamma.
        trace: lambda of the returns.
        batch_size: rollouts of one env, whole ones, in a gradient step.
        replay_size: steps that are kept.
        updates_per_rollout: gradient steps after each rollout.
        target_period: gradient steps between two copies of the network to its older self.
        intrinsic_weight: of the intrinsic reward.
        intrinsic_episodic: whether exploring ends with an episode.
        table_size: rows of the table of visits.
        torso, symbols, hidden_sizes, activation: as in `xplore.agents.ppo.PPO`.
        latent_size: of what the torso ends with.
        deterministic: act without noise, for the reward of the task.

    Reference: Silver et al. (2018), AlphaZero, Science 362; "gumbel": Danihelka et al. (2022),
    Policy improvement by planning with Gumbel; "puct": Schrittwieser et al. (2020),
    arXiv:1911.08265; novelty inside the search: Oren et al. (2022), arXiv:2210.13455.
    Deviations from the paper: the novelty is a reward of its own value head, not a variance that is
    propagated; values are means, not distributions; older rollouts are not searched again.
    """

    traits: ClassVar[tuple[str, ...]] = ("simulator",)

    learning_rate: float = 1e-3
    discount: float = 0.99
    policy: Policy = "gumbel"
    num_simulations: int = 16
    dirichlet_fraction: float = 0.25
    temperature: float = 0.25
    novelty_bonus: float = 0.0
    trace: float = 0.9
    batch_size: int = 8
    replay_size: int = 16_384
    updates_per_rollout: int = 32
    target_period: int = 8
    intrinsic_weight: float = 1.0
    intrinsic_episodic: bool = False
    table_size: int = 1 << 14
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64,)
    latent_size: int = 64
    activation: Activation = "relu"
    deterministic: bool = False

    def __post_init__(self) -> None:
        sizes = ("batch_size", "updates_per_rollout", "target_period", "table_size", "latent_size")
        check_options("alphazero", self, sizes)

    def init(self, key: Key, spec: RunSpec) -> SearchState:
        if spec.env.stochastic:
            raise ConfigError(
                f"alphazero searches by one outcome of each action, and {spec.env.name} is"
                " stochastic: use muzero, which learns a model of what happens on average, or"
                " choose a task without chance"
            )
        return first_state("alphazero", self, key, spec, model=False)

    def initial_carry(self, num_envs: int) -> tuple[()]:
        return ()

    def act(
        self, key: Key, state: SearchState, carry: tuple[()], obs: PyTree, first: jax.Array
    ) -> tuple[tuple[()], jax.Array, Extras]:
        logits = foresee_obs(state.network, state.learned.params, obs).logits
        if self.deterministic:
            action = jnp.argmax(logits, axis=-1)
        else:
            action = jax.random.categorical(key, logits)
        return (), action.astype(jnp.int32), Extras(jax.nn.softmax(logits))

    def act_in(
        self,
        key: Key,
        state: SearchState,
        carry: tuple[()],
        obs: PyTree,
        first: jax.Array,
        env: Environment,
        env_state: PyTree,
    ) -> tuple[tuple[()], jax.Array, Extras]:
        never = jnp.zeros(first.shape, bool)
        fixed = jax.random.key(0)  # nothing is random

        def said(obs: PyTree) -> tuple[jax.Array, jax.Array]:
            found = foresee_obs(state.network, state.learned.params, obs)
            return found.logits, found.value

        def step(action: jax.Array, node: Node) -> tuple[Arrival, Node]:
            moved, ts = jax.vmap(env.step, (None, 0, 0))(fixed, node.state, action)
            rows = rows_of(node.obs, 1, self.table_size)
            new = taken(novelty(state.visits, rows)[..., 0], action)
            reward = ts.reward if self.deterministic else ts.reward + self.novelty_bonus * new
            after = Node(
                state=select(node.ended, node.state, moved),
                obs=select(node.ended, node.obs, ts.obs),
                ended=node.ended | ts.terminated | ts.truncated,
                terminated=jnp.where(node.ended, node.terminated, ts.terminated),
            )
            logits, value = said(after.obs)
            task = jnp.where(after.terminated, 0.0, value[..., 0])
            exploring = jnp.where(after.ended, state.start_value, value[..., 1])
            arrival = Arrival(
                reward=jnp.where(node.ended, 0.0, reward),
                discount=jnp.where(node.ended, 1.0, self.discount),
                logits=logits,
                value=self._worth(jnp.stack([task, exploring], axis=-1)),
            )
            return arrival, after

        logits, value = said(obs)
        root = Node(env_state, obs, never, never)
        action, extras = search(self, key, logits, self._worth(value), root, step)
        return (), action, extras

    def update(
        self, key: Key, state: SearchState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[SearchState, Metrics]:
        return learn(self, key, state, traj, r_int)

    def greedy(self) -> AlphaZero:
        return replace(self, deterministic=True)

    def _worth(self, value: jax.Array) -> jax.Array:
        """Of both values, `[..., 2]`, what is acted for."""
        return value[..., 0] if self.deterministic else jnp.sum(value, axis=-1)
