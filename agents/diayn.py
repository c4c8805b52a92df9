"""Diversity is all you need: skills that can be told apart by the states they lead to."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, final

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import MLP, Encoder, Symbols, dense, init_params
from xplore.agents.ppo import PPO
from xplore.contracts.component import component, replace, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.spaces import Dict, Discrete, Space
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted


class Discriminator(nn.Module):
    """Logits of the skills, of observations: `obs [B, ...] -> [B, num_skills]`."""

    space: Space
    num_skills: int
    symbols: Symbols
    hidden_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, obs: PyTree) -> jax.Array:
        x = Encoder(self.space, self.symbols, keep_cells=False)(obs)
        return dense(self.num_skills, 0.01)(MLP(self.hidden_sizes, "relu")(x))


class Extras(NamedTuple):
    """What acting leaves for learning: the skill int32 `[N]`, and what PPO leaves."""

    skill: jax.Array
    ppo: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiaynState:
    """The learner's state, the discriminator, and how each skill did.

    Attributes:
        learner: of PPO, whose observation has the skill beside it.
        discriminator: parameters and optimiser of q.
        running: float32 `[N]`, the return so far of the episodes under way.
        paid: float32 `[K]`, a running mean of each skill's returns.
        network: of q; static.
    """

    learner: PyTree
    discriminator: Fitted
    running: jax.Array
    paid: jax.Array
    network: Discriminator = dataclasses.field(metadata={"static": True})


@final
@component
class Diayn:
    """PPO with one of K skills as an input, each rewarded for states that tell it from the others.

    A skill z is drawn uniformly at the start of an episode and kept until its end. Its reward is
    r = log q(z | s') - log p(z), with p(z) = 1/K, by a discriminator q that is fitted to the
    rollouts after they were scored: 0 where q cannot tell, and log K at most. PPO learns from
    skill_coefficient r plus the bonus as its intrinsic stream; the task's own reward counts with
    PPO's `extrinsic_coefficient`, which is 0 by default: skills are found without it.

    `greedy()` acts with the skill whose episodes have earned most, without noise.

    Attributes:
        ppo: the learner; its options are those of the id.
        num_skills: K.
        skill_coefficient: of r.
        discriminator_rate: learning rate of Adam for q.
        discriminator_sizes: its hidden layers.
        discriminator_steps: gradient steps after each rollout.
        discriminator_fraction: of a rollout's steps, that all of these take together.
        return_rate: how fast the mean of a skill's returns moves, by episode.

    Reference: Eysenbach et al. (2019), Diversity is all you need, arXiv:1802.06070.
    Deviations from the paper: PPO, not soft actor-critic; pictures go through dense layers.
    """

    ppo: PPO = PPO(extrinsic_coefficient=0.0)
    num_skills: int = 8
    skill_coefficient: float = 1.0
    discriminator_rate: float = 1e-3
    discriminator_sizes: tuple[int, ...] = (64, 64)
    discriminator_steps: int = 16
    discriminator_fraction: float = static(default=1.0)
    return_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.num_skills < 2:
            raise ConfigError(
                f"diayn: num_skills is {self.num_skills}: at least 2 can be told apart"
            )
        if self.discriminator_steps < 1:
            raise ConfigError(
                f"diayn: discriminator_steps is {self.discriminator_steps}: it must be at least 1"
            )

    def init(self, key: Key, spec: RunSpec) -> DiaynState:
        key_learner, key_params = jax.random.split(key)
        seen = Dict({"obs": spec.env.observation, "skill": Discrete(self.num_skills)})
        inner = spec._replace(env=dataclasses.replace(spec.env, observation=seen))
        network = Discriminator(
            spec.env.observation, self.num_skills, self.ppo.symbols, self.discriminator_sizes
        )
        params = init_params(network, key_params, spec.env.observation)
        return DiaynState(
            learner=self.ppo.init(key_learner, inner),
            discriminator=init_fitted(params, self.discriminator_rate),
            running=jnp.zeros(spec.num_envs),
            paid=jnp.zeros(self.num_skills),
            network=network,
        )

    def initial_carry(self, num_envs: int) -> jax.Array:
        return jnp.zeros(num_envs, jnp.int32)

    def act(
        self, key: Key, state: DiaynState, carry: jax.Array, obs: PyTree, first: jax.Array
    ) -> tuple[jax.Array, jax.Array, Extras]:
        key_skill, key_action = jax.random.split(key)
        drawn = jax.random.randint(key_skill, first.shape, 0, self.num_skills, jnp.int32)
        if self.ppo.deterministic:
            drawn = jnp.broadcast_to(jnp.argmax(state.paid).astype(jnp.int32), first.shape)
        skill = jnp.where(first, drawn, carry)
        seen = {"obs": obs, "skill": skill}
        _, action, kept = self.ppo.act(key_action, state.learner, (), seen, first)
        return skill, action, Extras(skill, kept)

    def update(
        self, key: Key, state: DiaynState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[DiaynState, Metrics]:
        key_learn, key_fit = jax.random.split(key)
        skill = traj.extras.skill
        rows, skills = flatten_rollout((traj.next_obs, skill))
        # Scored by what is known so far, then learned from.
        reward = self.skill_reward(state, rows, skills).reshape(traj.reward.shape)
        inner = traj._replace(
            obs={"obs": traj.obs, "skill": skill},
            next_obs={"obs": traj.next_obs, "skill": skill},
            extras=traj.extras.ppo,
            carry=(),
        )
        paid = self.skill_coefficient * reward + r_int
        learner, metrics = self.ppo.update(key_learn, state.learner, inner, paid)
        fitted, found = fit(
            key_fit, state.discriminator, self._loss(state.network), (rows, skills),
            learning_rate=self.discriminator_rate,
            fraction=self.discriminator_fraction,
            num_minibatches=self.discriminator_steps,
        )  # fmt: skip
        running, paid_by_skill = self._returns(state, traj)
        after = DiaynState(learner, fitted, running, paid_by_skill, state.network)
        return after, metrics | found | {"skill_reward": jnp.mean(reward)}

    def greedy(self) -> Diayn:
        return replace(self, ppo=self.ppo.greedy())

    def skill_reward(self, state: DiaynState, obs: PyTree, skill: jax.Array) -> jax.Array:
        """The reward log q(z | s) - log p(z) `[B]` of states `[B, ...]` reached by skills `[B]`."""
        logits: Any = state.network.apply(state.discriminator.params, obs)
        log_q = jax.nn.log_softmax(logits)
        of_skill: jax.Array = jnp.take_along_axis(log_q, skill[:, None], axis=1)[:, 0]
        return of_skill + jnp.log(float(self.num_skills))

    @staticmethod
    def _loss(network: Discriminator) -> Any:
        def loss(params: PyTree, rows: Any, key: Key) -> tuple[jax.Array, Metrics]:
            obs, skill = rows
            logits: Any = network.apply(params, obs)
            mean = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, skill))
            agrees = jnp.mean(jnp.argmax(logits, axis=-1) == skill)
            return mean, {"discriminator_loss": mean, "discriminator_accuracy": agrees}

        return loss

    def _returns(self, state: DiaynState, traj: Trajectory) -> tuple[jax.Array, jax.Array]:
        """Returns of the episodes under way `[N]`, and the running mean of each skill's `[K]`."""

        def step(sums: PyTree, x: tuple[jax.Array, ...]) -> tuple[PyTree, None]:
            running, paid = sums
            reward, ended, skill = x
            running = running + reward
            error = jnp.where(ended, running - paid[skill], 0.0)
            mine = skill[None] == jnp.arange(self.num_skills)[:, None]
            count = jnp.maximum(jnp.sum(mine & ended[None], axis=1), 1)
            mean = jnp.sum(jnp.where(mine, error[None], 0.0), axis=1) / count
            return (jnp.where(ended, 0.0, running), paid + self.return_rate * mean), None

        ended = traj.terminated | traj.truncated
        xs = (traj.reward, ended, traj.extras.skill)
        return jax.lax.scan(step, (state.running, state.paid), xs)[0]


@register_agent("diayn")
def diayn(
    num_skills: int = 8,
    skill_coefficient: float = 1.0,
    discriminator_rate: float = 1e-3,
    discriminator_sizes: tuple[int, ...] = (64, 64),
    discriminator_steps: int = 16,
    discriminator_fraction: float = 1.0,
    return_rate: float = 0.05,
    extrinsic_coefficient: float = 0.0,
    **ppo: Any,
) -> Diayn:
    """PPO with skills as an input, rewarded for states by which they can be told apart.

    Args:
        num_skills: how many.
        skill_coefficient: of the reward log q(z | s') - log p(z).
        discriminator_rate: learning rate of the discriminator q.
        discriminator_sizes: its hidden layers.
        discriminator_steps: its gradient steps after each rollout.
        discriminator_fraction: of a rollout's steps, that all of these take together.
        return_rate: how fast the mean of a skill's returns moves.
        extrinsic_coefficient: of the task's own reward.
        **ppo: other options of `xplore.agents.ppo.PPO`.
    """
    return Diayn(
        replace(PPO(extrinsic_coefficient=extrinsic_coefficient), **ppo),
        num_skills,
        skill_coefficient,
        discriminator_rate,
        discriminator_sizes,
        discriminator_steps,
        discriminator_fraction,
        return_rate,
    )
