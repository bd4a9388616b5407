"""Elementwise, pooling, loss and optimizer kernels write their results and nothing beside them."""

import numpy as np
import pytest
from guards import Guards

import halfwave as hw

SIZES = [1, 3, 17, 66]


def calls(g, n, rng):
    """Every operation on arrays between guard bytes, the last dimension n."""

    def array(*shape):
        return g.array(rng.standard_normal(shape).astype("f4"))

    flat, image, alpha = array(3, n), array(2, 3, 5, n), array(3)
    labels = g.array(rng.integers(0, n, 3))
    yield hw.relu, (flat,), (3, n)
    yield hw.relu_backward, (flat, flat), (3, n)
    yield hw.prelu, (image, alpha), (2, 3, 5, n)
    yield hw.prelu_backward, (image, image, alpha), (2, 3, 5, n)
    yield hw.sigmoid, (flat,), (3, n)
    yield hw.tanh_backward, (flat, flat), (3, n)
    yield lambda x, out: hw.dropout(x, 0.5, seed=1, out=out), (flat,), (3, n)
    yield hw.softmax_cross_entropy_backward, (flat, labels), (3, n)
    pooled = (2, 3, 5, n)
    yield lambda x, out: hw.max_pool2d(x, 3, stride=1, padding=1, out=out), (image,), pooled
    yield (
        lambda dy, x, out: hw.max_pool2d_backward(dy, x, 3, stride=1, padding=1, out=out),
        (array(*pooled), image),
        pooled,
    )
    last = {"stride": 1, "padding": 1, "layout": "NHWC"}
    yield lambda x, out: hw.max_pool2d(x, 3, out=out, **last), (image,), pooled
    yield hw.spatial_pyramid_pool, (image,), (2, 3 * 50)
    yield hw.spatial_pyramid_pool_backward, (array(2, 3 * 50), image), pooled


@pytest.mark.parametrize("n", SIZES)
def test_nothing_beside_the_result(n, isa, rng):
    inputs = Guards()
    for function, arguments, shape in calls(inputs, n, rng):
        outputs = Guards()
        function(*arguments, out=outputs.array(np.zeros(shape, "f4")))
        assert outputs.intact()
        assert inputs.untouched()


@pytest.mark.parametrize("n", SIZES)
def test_nothing_beside_the_weights(n, isa, rng):
    guards, gradients = Guards(), Guards()
    w, velocity = guards.array(np.ones(n, "f4")), guards.array(np.ones(n, "f4"))
    dw = gradients.array(np.ones(n, "f4"))
    hw.sgd_momentum(w, dw, velocity, learning_rate=0.1, weight_decay=0.1)
    assert guards.intact()
    assert gradients.untouched()
