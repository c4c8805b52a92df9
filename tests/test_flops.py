"""FLOP counts against closed forms, and against XLA where XLA can count."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from xplore.contracts.errors import ConfigError
from xplore.measure.flops import count_flops


def f32(*shape: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def mlp(params: Any, x: Any) -> Any:
    w1, b1, w2, b2 = params
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


B, D, H, A = 7, 5, 11, 3
PARAMS = (f32(D, H), f32(1, H), f32(H, A), f32(1, A))
# Two products, two additions of a bias, one tanh.
FORWARD = 2 * B * D * H + 2 * B * H * A + 2 * B * H + B * A


def test_forward_pass_is_exact() -> None:
    assert count_flops(mlp, PARAMS, f32(B, D)) == FORWARD


def test_jit_remat_and_custom_rules_are_seen_through() -> None:
    assert count_flops(jax.jit(mlp), PARAMS, f32(B, D)) == FORWARD
    assert count_flops(jax.checkpoint(mlp), PARAMS, f32(B, D)) == FORWARD
    assert count_flops(jax.nn.relu, f32(9)) == 9  # a custom_jvp around a jit


def test_batched_product() -> None:
    dot = jax.vmap(jnp.dot)
    assert count_flops(dot, f32(4, 2, 3), f32(4, 3, 5)) == 4 * 2 * 2 * 3 * 5


def test_vmap_over_data_multiplies() -> None:
    over_seeds = jax.vmap(mlp)
    params = tuple(f32(6, *p.shape) for p in PARAMS)
    assert count_flops(over_seeds, params, f32(6, B, D)) == 6 * FORWARD


def test_scan_multiplies_by_its_length() -> None:
    def loop(params: Any, xs: Any) -> Any:
        return jax.lax.scan(lambda total, x: (total + mlp(params, x), None), jnp.zeros((B, A)), xs)[
            0
        ]

    assert count_flops(loop, PARAMS, f32(13, B, D)) == 13 * (FORWARD + B * A)


def test_value_and_grad_costs_about_three_forward_passes() -> None:
    wide = (f32(64, 256), f32(1, 256), f32(256, 32), f32(1, 32))
    x = f32(512, 64)
    forward = count_flops(mlp, wide, x)
    both = count_flops(jax.value_and_grad(lambda p, x: jnp.mean(jnp.square(mlp(p, x)))), wide, x)
    # The first layer needs no gradient of its input, so it costs two passes of products, not three.
    products = 2 * 512 * (64 * 256 * 2 + 256 * 32 * 3)
    assert products < both < 1.05 * products
    assert 2 < both / forward < 3


def test_gradient_through_a_scan() -> None:
    w, xs = f32(16, 16), f32(10, 4, 16)

    def loss(w: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            return jnp.tanh(h @ w + x), None

        return jnp.sum(jax.lax.scan(step, jnp.zeros((4, 16)), xs)[0])

    product = 2 * 4 * 16 * 16
    found = count_flops(jax.grad(loss), w, xs)
    assert 3 * 10 * product < found < 1.35 * 3 * 10 * product


def test_unused_results_cost_nothing() -> None:
    def wasteful(x: Any, w: Any) -> Any:
        _ = jnp.sum(x @ w)
        return x + 1.0

    assert count_flops(wasteful, f32(8, 8), f32(8, 8)) == 64


def test_integers_moves_and_random_bits_are_free() -> None:
    def integer_env(key: Any, x: Any, index: Any) -> Any:
        moved = x[index % 4].T.reshape(-1)
        bits = jax.random.bits(key, (100,))
        return jnp.sort(moved), bits, index * 3 + 1, index.astype(jnp.float32)

    key = jax.eval_shape(lambda: jax.random.key(0))
    assert count_flops(integer_env, key, f32(4, 8, 8), jax.ShapeDtypeStruct((5,), jnp.int32)) == 0


def test_reductions_count_what_they_read() -> None:
    assert count_flops(lambda x: jnp.sum(x, axis=0), f32(50, 4)) == 200
    assert count_flops(lambda x: jnp.cumsum(x, axis=0), f32(50, 4)) == 200
    assert count_flops(lambda x: jnp.argmax(x, axis=1), f32(50, 4)) == 200
    assert count_flops(lambda x, u: x.at[jnp.arange(6)].add(u), f32(50), f32(6)) == 6


def test_cond_takes_the_dearest_branch_and_vmap_runs_both() -> None:
    def choose(flag: Any, x: Any) -> Any:
        return jax.lax.cond(flag, lambda x: x @ x, lambda x: x + 1.0, x)

    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    dear, cheap = 2 * 8**3, 64
    assert count_flops(choose, flag, f32(8, 8)) == dear
    flags = jax.ShapeDtypeStruct((3,), jnp.bool_)
    assert count_flops(jax.vmap(choose), flags, f32(3, 8, 8)) == 3 * (dear + cheap)


def square_until(bound: Any) -> Any:
    def run(x: Any, n: Any) -> Any:
        def going_on(loop: Any) -> Any:
            return loop[0] < (bound if bound is not None else n)

        return jax.lax.while_loop(going_on, lambda loop: (loop[0] + 2, loop[1] @ loop[1]), (1, x))[
            1
        ]

    return run


def test_while_loops() -> None:
    n = jax.ShapeDtypeStruct((), jnp.int32)
    once = 2 * 4**3
    # 1, 3, 5, 7, 9: five times.
    assert count_flops(square_until(10), f32(4, 4), n, while_trips=None) == 5 * once
    assert count_flops(square_until(None), f32(4, 4), n) == once
    assert count_flops(square_until(None), f32(4, 4), n, while_trips=12.5) == 12.5 * once
    with pytest.raises(ConfigError, match="give while_trips"):
        count_flops(square_until(None), f32(4, 4), n, while_trips=None)
    # A while loop without floats, as random bits may have, is no reason to refuse.
    counting = lambda n: jax.lax.while_loop(lambda i: i * i < n, lambda i: i + 1, 0)  # noqa: E731
    assert count_flops(counting, n, while_trips=None) == 0


def test_static_fori_loop() -> None:
    double = lambda x: jax.lax.fori_loop(0, 6, lambda i, x: x * 2.0, x)  # noqa: E731
    assert count_flops(double, f32(10), while_trips=None) == 60


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_and_its_gradient(stride: Any) -> None:
    def conv(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x, w = f32(2, 11, 11, 3), f32(3, 3, 3, 8)
    side = 9 if stride == 1 else 5
    forward = 2 * (2 * side * side * 8) * (3 * 3 * 3)
    assert count_flops(conv, x, w) == forward
    grouped = f32(3, 3, 1, 9)

    def depthwise(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
        )

    assert count_flops(depthwise, x, grouped) == 2 * (2 * 9 * 9 * 9) * (3 * 3)
    by_weights = count_flops(jax.grad(lambda w, x: jnp.sum(conv(x, w)), 0), w, x)
    assert by_weights == pytest.approx(forward, rel=0.05)


def test_linear_algebra() -> None:
    n = 20
    assert count_flops(jnp.linalg.cholesky, f32(n, n)) == pytest.approx(n**3 / 3, rel=0.5)
    solve = lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True)  # noqa: E731
    assert count_flops(solve, f32(n, n), f32(n, 4)) == pytest.approx(n * n * 4, rel=0.1)
    # A general solve: one factorisation and two triangular solves.
    assert count_flops(jnp.linalg.solve, f32(n, n), f32(n)) == pytest.approx(
        2 * n**3 / 3 + 2 * n * n, rel=0.2
    )


def test_agrees_with_xla_on_a_program_without_loops() -> None:
    def loss(params: Any, x: Any, y: Any) -> Any:
        error = jnp.square(mlp(params, x) - y)
        return jnp.mean(error)

    params = (f32(32, 64), f32(1, 64), f32(64, 8), f32(1, 8))
    args = (params, f32(128, 32), f32(128, 8))
    step = jax.value_and_grad(loss)
    cost = jax.jit(step).lower(*args).cost_analysis()
    assert cost is not None
    expected = cost["flops"] + cost["transcendentals"]
    assert count_flops(step, *args) == pytest.approx(expected, rel=0.05)


def test_components_and_typed_keys_pass_as_arguments() -> None:
    def draw(key: Any, scale: Any) -> Any:
        return jax.random.uniform(key, (100,)) * scale

    key = jax.eval_shape(lambda: jax.random.key(0))
    assert 100 <= count_flops(draw, key, 2.0) <= 600
