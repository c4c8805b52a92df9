"""A bonus of your own: copy this file, change `reward`, and run it beside the others.

xplore run MiniGrid-DoorKey-8x8-v0 --bonus docs/templates/my_bonus.py:my_bonus
"""

from typing import Any, final

import jax
import jax.numpy as jnp

import xplore


@xplore.register_bonus("my_bonus")
@final
@xplore.component
class MyBonus:
    """Pays for change: `r = coefficient * change(o, o') / running mean of change`."""

    coefficient: float = 0.01  # a float: can be swept by `vmap`; set by `--bonus.coefficient`
    momentum: float = 0.99

    def reads(self) -> tuple[str, ...]:
        return ()  # or names of `EnvSpec.privileged`, such as ("position",)

    def init(self, key: jax.Array, spec: xplore.RunSpec) -> Any:
        return jnp.float32(1)  # any pytree of arrays; sizes are in `spec`

    def reward(self, state: Any, traj: xplore.Trajectory) -> tuple[Any, jax.Array]:
        # Leaves of `traj` are [T, N, ...]. The part of the observation that each step changed:
        changed = [
            jnp.mean(a != b, axis=range(2, a.ndim), dtype=jnp.float32)
            for a, b in zip(jax.tree.leaves(traj.obs), jax.tree.leaves(traj.next_obs), strict=True)
        ]
        change = jnp.mean(jnp.stack(changed), axis=0)
        # Statistics may move here; nothing may learn, or a step would be scored by its own lesson.
        state = self.momentum * state + (1 - self.momentum) * jnp.mean(change)
        return state, self.coefficient * change / (state + 1e-6)

    def update(
        self, key: jax.Array, state: Any, traj: xplore.Trajectory
    ) -> tuple[Any, dict[str, jax.Array]]:
        # Gradients, if there are any, belong here. Scalars returned are logged as "bonus/...".
        return state, {"mean_change": state}
