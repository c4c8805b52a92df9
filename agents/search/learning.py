"""What the agents with a search learn, from a replay of rollouts."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import resolve_torso
from xplore.agents.search.network import Foreseen, SearchNetwork
from xplore.agents.search.plan import Extras, novelty, rows_of
from xplore.agents.search.targets import LearnOptions, Segment, foresee_obs, taken, targets
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete, shape_dtype
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.replay import Learned, Replay, descend, unlearned
from xplore.parts.starts import mean_at_starts


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchState:
    """What was learned, and from what.

    Attributes:
        learned: the network.
        replay: of one env's rollouts, `Segment`s.
        visits: float32 `[M, A]`, how often an action was taken at an observation, by its hash.
        model_steps: float32 `[]`, steps that searches have made.
        start_value: float32 `[]`, what exploring is worth from the start of an episode.
        network: what `learned` is of.
    """

    learned: Learned
    replay: PyTree
    visits: jax.Array
    model_steps: jax.Array
    start_value: jax.Array
    network: SearchNetwork = dataclasses.field(metadata={"static": True})


def check_spec(agent: str, options: LearnOptions, spec: RunSpec) -> Discrete:
    """The action space of a run that an agent with a search can learn in.

    Raises:
        ConfigError: actions are not discrete, or the replay does not hold a rollout.
    """
    if not isinstance(spec.env.action, Discrete):
        raise ConfigError(
            f"{agent} searches a tree of Discrete actions; {spec.env.name} has {spec.env.action}:"
            " choose an environment with discrete actions"
        )
    resolve_torso(options.torso, spec.env.observation)
    rollout = spec.num_envs * spec.num_steps
    if options.replay_size < rollout:
        raise ConfigError(
            f"{agent}: a rollout of {spec.num_envs} envs * {spec.num_steps} steps = {rollout:,}"
            f" does not fit a replay of {options.replay_size:,}: use replay_size={2 * rollout} or"
            " more, or fewer envs or steps"
        )
    return spec.env.action


def first_state(
    agent: str, options: LearnOptions, key: Key, spec: RunSpec, *, model: bool
) -> SearchState:
    """Before the first step; with a `model` in the network, or without.

    Raises:
        ConfigError: see `check_spec`.
    """
    actions = check_spec(agent, options, spec)
    network = SearchNetwork(
        space=spec.env.observation,
        num_actions=actions.num,
        model=model,
        torso=options.torso,
        symbols=options.symbols,
        hidden_sizes=options.hidden_sizes,
        latent_size=options.latent_size,
        activation=options.activation,
    )
    key_params, key_obs = jax.random.split(key)
    obs = jax.tree.map(lambda x: x[None], spec.env.observation.sample(key_obs))
    params = network.init(key_params, obs, jnp.zeros(1, jnp.int32))
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape_dtype(spec.env.observation))
    off = jnp.zeros((), bool)
    zeros = jnp.zeros(actions.num)
    step = Segment(blank, jnp.int32(0), jnp.zeros(2), blank, off, off, off, zeros)
    item = jax.tree.map(lambda x: jnp.zeros((spec.num_steps, *x.shape), x.dtype), step)
    return SearchState(
        learned=unlearned(params, _optimizer(options)),
        replay=_replay(options, spec.num_steps).init_items(item),
        visits=jnp.zeros((options.table_size, actions.num)),
        model_steps=jnp.float32(0),
        start_value=jnp.float32(0),
        network=network,
    )


def learn(
    options: LearnOptions,
    key: Key,
    state: SearchState,
    traj: Trajectory,
    r_int: jax.Array,
    *,
    unroll_steps: int = 0,
    untried_value: float | jax.Array = 0.0,
) -> tuple[SearchState, Metrics]:
    """Counts and stores a rollout, and takes the gradient steps that follow it.

    Args:
        options: of the agent.
        key: consumed.
        state: before.
        traj: `[T, N]`, with `Extras`.
        r_int: `[T, N]`.
        unroll_steps: K, how far a model in the network is unrolled; 0 without.
        untried_value: what an action is worth that was never taken; 0: what a model says.
    """
    rows = rows_of(traj.obs, 2, options.table_size)
    visits = state.visits.at[rows, traj.action].add(1.0)
    length = state.replay.experience.valid.shape[-1]
    ends = options.intrinsic_episodic
    start_value = state.start_value if ends else _start_value(state, traj)
    replay = _replay(options, length)
    buffer = replay.add(state.replay, _segments(options, traj, r_int, length))

    def step(learned: Learned, batch: Any, key: Key) -> tuple[Learned, Metrics]:
        older = learned.target_params
        target = targets(options, state.network, older, visits, batch, start_value, untried_value)
        new = novelty(visits, rows_of(batch.obs, 2, options.table_size))
        window = _windows(batch, target, new, start_value, unroll_steps)

        def loss(params: PyTree) -> tuple[jax.Array, Metrics]:
            return _loss(state.network, params, window, jnp.mean(target))

        gradient, metrics = jax.grad(loss, has_aux=True)(learned.params)
        return descend(learned, gradient, _optimizer(options), options.target_period), metrics

    learned, metrics = replay.learn(key, buffer, state.learned, step, options.updates_per_rollout)
    searched = state.model_steps + options.num_simulations * traj.reward.size
    metrics |= {
        "model_steps": searched,
        "novelty": jnp.mean(taken(novelty(visits, rows)[..., 0], traj.action)),
    }
    state = dataclasses.replace(
        state,
        learned=learned,
        replay=buffer,
        visits=visits,
        model_steps=searched,
        start_value=start_value,
    )
    return state, metrics


def _start_value(state: SearchState, traj: Trajectory) -> jax.Array:
    """What exploring is worth at the starts of a rollout, in the mean; float32 `[]`.

    Exploring goes on in the next episode: were an end worth nothing, an agent would keep away from
    it, and from every success that ends an episode.
    """
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), traj.obs)
    said = foresee_obs(state.network, state.learned.params, flat).value[:, 1]
    return mean_at_starts(said, traj.first.reshape(-1), state.start_value)


def _optimizer(options: LearnOptions) -> optax.GradientTransformation:
    return optax.adam(options.learning_rate)


def _replay(options: LearnOptions, num_steps: int) -> Replay:
    """Of whole rollouts."""
    return Replay(options.replay_size // num_steps, options.batch_size, 1)


def _segments(options: LearnOptions, traj: Trajectory, r_int: jax.Array, length: int) -> Segment:
    """One of each env, `[N, length, ...]`."""
    kept: Extras = traj.extras
    segment = Segment(
        obs=traj.obs,
        action=traj.action,
        reward=jnp.stack([traj.reward, options.intrinsic_weight * r_int], axis=-1),
        next_obs=traj.next_obs,
        terminated=traj.terminated,
        truncated=traj.truncated,
        valid=jnp.ones(traj.reward.shape, bool),
        policy=kept.policy,
    )

    def by_env(x: jax.Array) -> jax.Array:
        missing = jnp.zeros((length - x.shape[0], *x.shape[1:]), x.dtype)
        return jnp.swapaxes(jnp.concatenate([x, missing]), 0, 1)

    return jax.tree.map(by_env, segment)


class _Window(NamedTuple):
    """What follows each step of a batch for K more, leaves `[K + 1, B * T, ...]`.

    Attributes:
        step: the steps.
        value: `[..., 2]`, targets.
        novelty: `[..., A, 2]`, targets.
        alive: the step was made, in the episode of the first.
        known: either that, or the episode had terminated, after which the task pays nothing and
            exploring goes on at the start.
    """

    step: Segment
    value: jax.Array
    novelty: jax.Array
    alive: jax.Array
    known: jax.Array


def _windows(
    batch: Segment, value: jax.Array, new: jax.Array, start_value: jax.Array, unroll_steps: int
) -> _Window:
    num_steps = batch.valid.shape[1]
    span = jnp.arange(unroll_steps + 1)
    place = jnp.arange(num_steps)[None, :] + span[:, None]  # [K + 1, T]
    inside = (place < num_steps)[:, None, :]
    place = jnp.minimum(place, num_steps - 1)

    def gather(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x[:, place], 1, 0)  # [K + 1, B, T, ...]

    step, value, new = jax.tree.map(gather, (batch, value, new))
    here = step.valid & inside
    goes_on = here & ~(step.terminated | step.truncated)
    reached = jnp.cumprod(goes_on.astype(jnp.int32), axis=0) > 0
    reached = jnp.concatenate([jnp.ones_like(reached[:1]), reached[:-1]])
    alive = reached & here
    over = jnp.cumsum((alive & step.terminated).astype(jnp.int32), axis=0) > 0
    over = jnp.concatenate([jnp.zeros_like(over[:1]), over[:-1]])
    wide = alive[..., None]
    step = step._replace(reward=jnp.where(wide, step.reward, 0.0))
    new = jnp.where(wide[..., None], new, 0.0)
    ended = jnp.stack([jnp.zeros_like(start_value), start_value])
    window = _Window(step, jnp.where(wide, value, ended), new, alive, alive | over)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), window)


def _loss(
    network: SearchNetwork, params: PyTree, window: _Window, mean_target: jax.Array
) -> tuple[jax.Array, Metrics]:
    """The sum of what is asked of policy and values, and of a model for K steps."""
    roots = jax.tree.map(lambda x: x[0], window.step.obs)
    latent: Any = network.apply(params, roots, method="represent")

    def one(latent: jax.Array, x: _Window) -> tuple[jax.Array, dict[str, jax.Array]]:
        said: Any = network.apply(params, latent, method="foresee")
        found = Foreseen(*said)
        cross = optax.softmax_cross_entropy(found.logits, x.step.policy)
        error = jnp.sum(jnp.square(found.value - x.value), axis=-1)
        terms = {"policy": _mean(cross, x.alive), "value": _mean(error, x.known)}
        if network.model:
            unsure = jnp.sum(jnp.square(found.novelty - x.novelty), axis=(-2, -1))
            # Half of the gradient, as each step back adds some.
            latent = 0.5 * (latent + jax.lax.stop_gradient(latent))
            after: Any = network.apply(params, latent, x.step.action, method="imagine")
            latent, reward = after
            aim: Any = network.apply(params, x.step.next_obs, method="represent")
            apart = jnp.mean(jnp.square(latent - jax.lax.stop_gradient(aim)), axis=-1)
            wrong = jnp.sum(jnp.square(reward - x.step.reward), axis=-1)
            terms |= {
                "novelty_error": _mean(unsure, x.known),
                "reward_error": _mean(wrong, x.known),
                # What is seen at an end may look like what is worth something elsewhere.
                "consistency": _mean(apart, x.alive & ~x.step.terminated),
            }
        return latent, terms

    _, terms = jax.lax.scan(one, latent, window)
    losses = {name: jnp.mean(x) for name, x in terms.items()}
    total = sum(losses.values(), jnp.float32(0))
    return total, {"loss": total, **losses, "value_target": mean_target}


def _mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
