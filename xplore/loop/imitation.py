"""Behaviour cloning: an agent's policy is fitted to a dataset, before training or instead of it.

    dataset = xplore.record_expert(env, xplore.oracle.expert(env), ids, key=key)
    state, metrics = xplore.behaviour_clone(key, agent, agent.init(key, spec), dataset)

What it returns is a state like any other: it can be evaluated, and `train` can go on from it
(`agent_state`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Agent, HasPolicy, Key, Metrics, Policy, PyTree
from xplore.loop.dataset import Dataset
from xplore.parts.imitation import Examples, imitate

_MOST_JUDGED = 1 << 16


def behaviour_clone(
    key: Key,
    agent: Agent,
    state: PyTree,
    dataset: Dataset,
    *,
    num_steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
) -> tuple[PyTree, Metrics]:
    """Fits an agent's policy to a dataset: minimises -log pi(a | s), by Adam.

    Pure but for its checks: may be vmapped over `key` and `state`. Values are left as they are.

    Args:
        key: consumed.
        agent: one that has a `policy` (see `HasPolicy`), such as `ppo` and `rapid`.
        state: of one seed, from `agent.init` or from a run.
        dataset: of an environment with the spaces that the state was made for.
        num_steps: gradient steps.
        batch_size: steps of the dataset in each, drawn with replacement.
        learning_rate: of Adam.

    Returns:
        The agent's state, and how it fits the dataset (the first 65,536 steps of it): the
        `imitation_loss`, and `imitation_accuracy`, how often the likeliest action is the dataset's.

    Raises:
        ConfigError: the agent has no policy to fit, the dataset is empty, or their spaces differ.
    """
    if not isinstance(agent, HasPolicy):
        raise ConfigError(
            f"{type(agent).__name__} has no policy to fit to examples: use an agent that has one,"
            " such as ppo or rapid"
        )
    if dataset.num_steps < 1:
        raise ConfigError("the dataset is empty: record at least one episode")
    policy = agent.policy(state)
    _check_fits(policy, dataset)
    examples = Examples(dataset.obs, dataset.action)
    fitted, _ = imitate(
        key,
        policy,
        optax.adam(learning_rate).init(policy.params),
        examples,
        learning_rate=learning_rate,
        batch_size=batch_size,
        num_steps=num_steps,
    )
    some = jax.tree.map(lambda x: x[:_MOST_JUDGED], examples)
    logits = policy.logits(fitted.params, some.obs)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, some.action)
    agrees = jnp.argmax(logits, axis=-1) == some.action
    metrics = {"imitation_loss": jnp.mean(losses), "imitation_accuracy": jnp.mean(agrees)}
    return policy.put(fitted.params), metrics


def _check_fits(policy: Policy, dataset: Dataset) -> None:
    space = dataset.action_space
    if not isinstance(space, Discrete):
        raise ConfigError(f"policies are fitted to Discrete actions; {dataset.name} has {space}")
    one = jax.tree.map(lambda x: x[:1], dataset.obs)
    told = f"the state was made for other observations than {dataset.name}'s {dataset.observation}"
    try:
        found = jax.eval_shape(policy.logits, policy.params, one)
    except Exception as error:
        raise ConfigError(f"{told}: make it with the environment of the dataset") from error
    if found.shape[-1] != space.num:
        raise ConfigError(
            f"the state was made for {found.shape[-1]} actions, and {dataset.name} has {space.num}:"
            " make it with the environment of the dataset"
        )
