"""A tree search by a learned model."""

from __future__ import annotations

from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from xplore.agents.networks import Activation, Symbols, Torso
from xplore.agents.search.learning import SearchState, first_state, learn
from xplore.agents.search.network import Foreseen
from xplore.agents.search.plan import Arrival, Extras, Policy, check_options, search
from xplore.agents.search.targets import taken
from xplore.contracts.component import component, replace
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory


@register_agent("muzero")
@final
@component
class MuZero:
    """Acts by a tree search of `num_simulations` steps of a model of latent states it learns.

    h = f(o); a step of the model is (h', r) = g(h, a). Policy, values, rewards and novelty are
    asked of h unrolled for `unroll_steps` real actions, and h' is held to f(o') of what was really
    seen next; after an episode's end all is worth nothing. To explore, a step of the search earns
    novelty_bonus * u(h, a) more, where u is learned to be 1 / sqrt(1 + N(o, a)), for actions that
    were never taken too: so novelty is known where the counts cannot follow. With `untried_value`,
    such an action is worth that, as far as a second output knows them, and what the model makes up
    of it nothing. V is learned from lambda-returns that take what follows a step to be worth what
    the best action is by the model, and go on only where that one was taken.

    Steps of the model that searches make are in the metric "model_steps". `greedy()` searches for
    the reward of the task, without noise.

    Attributes:
        unroll_steps: K.
        untried_value: what an action that was never taken is worth, such as the most that an
            episode can return; 0: what the model says.
        policy, num_simulations, dirichlet_fraction, temperature, novelty_bonus, discount, trace,
            batch_size, replay_size, updates_per_rollout, target_period, intrinsic_weight,
            intrinsic_episodic, table_size, torso, symbols, hidden_sizes, activation,
            deterministic: as in `xplore.agents.search.alphazero.AlphaZero`.
        latent_size: D of h.

    Reference: Schrittwieser et al. (2020), MuZero, arXiv:1911.08265; "gumbel": Danihelka et al.
    (2022), Policy improvement by planning with Gumbel; h' held to f(o'): Ye et al. (2021),
    arXiv:2111.00210; novelty inside the search: Oren et al. (2022), arXiv:2210.13455; untried
    actions: Brafman & Tennenholtz (2002), R-max, JMLR 3.
    Deviations from the paper: as AlphaZero's; where tasks are stochastic h' is a mean; one
    observation, not a stack.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    learning_rate: float = 1e-3
    discount: float = 0.99
    policy: Policy = "gumbel"
    num_simulations: int = 16
    dirichlet_fraction: float = 0.25
    temperature: float = 0.25
    novelty_bonus: float = 0.0
    untried_value: float = 0.0
    trace: float = 0.9
    unroll_steps: int = 5
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
        check_options("muzero", self, (*sizes, "unroll_steps"))

    def init(self, key: Key, spec: RunSpec) -> SearchState:
        return first_state("muzero", self, key, spec, model=True)

    def initial_carry(self, num_envs: int) -> tuple[()]:
        return ()

    def act(
        self, key: Key, state: SearchState, carry: tuple[()], obs: PyTree, first: jax.Array
    ) -> tuple[tuple[()], jax.Array, Extras]:
        def ask(*args: Any, method: str) -> Any:
            return state.network.apply(state.learned.params, *args, method=method)

        def step(action: jax.Array, latent: jax.Array) -> tuple[Arrival, jax.Array]:
            here = Foreseen(*ask(latent, method="foresee")).novelty
            new, untried = (taken(here[..., i], action) for i in range(2))
            latent, rewards = ask(latent, action, method="imagine")
            found = Foreseen(*ask(latent, method="foresee"))
            reward = self._worth(rewards)
            discount = jnp.full_like(reward, self.discount)
            if not self.deterministic:
                # What the model says of an action that was never taken is made up.
                ignored = (untried > 0.5) & (self.untried_value > 0.0)
                promised = self.untried_value + self.discount * state.start_value
                reward = jnp.where(ignored, promised, reward + self.novelty_bonus * new)
                discount = jnp.where(ignored, 0.0, discount)
            return Arrival(reward, discount, found.logits, self._worth(found.value)), latent

        latent = ask(obs, method="represent")
        found = Foreseen(*ask(latent, method="foresee"))
        value = self._worth(found.value)
        action, extras = search(self, key, found.logits, value, latent, step)
        return (), action, extras

    def update(
        self, key: Key, state: SearchState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[SearchState, Metrics]:
        return learn(
            self,
            key,
            state,
            traj,
            r_int,
            unroll_steps=self.unroll_steps,
            untried_value=self.untried_value,
        )

    def greedy(self) -> MuZero:
        return replace(self, deterministic=True)

    def _worth(self, value: jax.Array) -> jax.Array:
        """Of both values or rewards, `[..., 2]`, what is acted for."""
        return value[..., 0] if self.deterministic else jnp.sum(value, axis=-1)
