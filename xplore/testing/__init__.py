"""Conformance checks: what every environment, bonus, agent and world sampler promises, as code.

    from xplore.testing import check_bonus

    def test_my_bonus():
        check_bonus(MyBonus(), xplore.make("DeepSea-10-v0"))

Each check raises an AssertionError that names what is violated, and lets through the `ConfigError`
with which a component refuses an environment. Compiling is most of the cost, so each runs a few
programs on small shapes: "vmap == loop" and "jit == no jit" compare a compiled batch with Python.
"""

from xplore.testing._envs import check_env
from xplore.testing._plugs import check_agent, check_bonus, check_world_sampler

__all__ = ["check_agent", "check_bonus", "check_env", "check_world_sampler"]
