"""Layers: gradients against finite differences in float64, streams, and the optimizer."""

from functools import partial

import numpy as np
import pytest

from halfwave import init, nn

LABELS = np.array([0, 2, 1])


def _layers():
    d = {"dtype": "float64", "seed": 5}
    return {
        "linear": (nn.Linear(7, 4, **d), (3, 7)),
        "conv": (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, **d), (3, 4, 6, 5)),
        "conv dilated": (nn.Conv2d(2, 3, (2, 3), dilation=2, **d), (2, 2, 6, 7)),
        "relu": (nn.ReLU(), (3, 5)),
        "prelu": (nn.PReLU(5, dtype="float64"), (3, 5, 2, 2)),
        "prelu shared": (nn.PReLU(1, dtype="float64"), (3, 5)),
        "sigmoid": (nn.Sigmoid(), (3, 5)),
        "tanh": (nn.Tanh(), (3, 5)),
        "pool": (nn.MaxPool2d(3, stride=2), (2, 3, 7, 9)),
        "pyramid": (nn.SpatialPyramidPool((3, 2, 1)), (2, 3, 5, 7)),
        "flatten": (nn.Flatten(), (2, 3, 2, 2)),
        "dropout": (nn.Dropout(0.3, seed=2), (4, 9)),
        "sequential": (nn.Sequential([nn.Conv2d(2, 3, 3, name="c", **d),
                                      nn.PReLU(3, name="a", dtype="float64"), nn.Flatten(),
                                      nn.Linear(12, 4, name="f", **d), nn.Tanh()]),
                       (2, 2, 4, 4)),
    }  # fmt: skip


def _differences(function, array, step=1e-6):
    gradient = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = function()
        array[index] = kept - step
        gradient[index] = (above - function()) / (2 * step)
        array[index] = kept
    return gradient


@pytest.mark.parametrize("name", _layers())
def test_gradients(name, rng):
    layer, shape = _layers()[name]
    x = rng.normal(size=shape)
    weights = rng.normal(size=layer.forward(x, True).shape)

    def loss():
        for each in layer if isinstance(layer, nn.Sequential) else [layer]:
            if isinstance(each, nn.Dropout):
                each.passes = 0  # the same mask again
        return float((layer.forward(x, True) * weights).sum())

    loss()
    dx = layer.backward(weights.copy())
    found = {p.name: p.gradient.copy() for p in layer.parameters()}
    np.testing.assert_allclose(dx, _differences(loss, x), rtol=1e-6, atol=1e-8)
    for p in layer.parameters():
        expected = _differences(loss, p.value)
        np.testing.assert_allclose(found[p.name], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["linear", "conv", "sequential"])
def test_input_gradient_can_be_left_out(name, rng):
    layer, shape = _layers()[name]
    y = layer.forward(rng.normal(size=shape), True)
    layer.backward(np.ones_like(y))
    with_it = [p.gradient.copy() for p in layer.parameters()]
    assert layer.backward(np.ones_like(y), input_gradient=False) is None
    for p, gradient in zip(layer.parameters(), with_it, strict=True):
        np.testing.assert_array_equal(p.gradient, gradient)


def test_a_parameters_values_depend_on_its_name_and_seed_alone():
    alone = nn.Linear(6, 5, name="fc2", seed=3).weight.value
    nn.Linear(9, 9, name="new", seed=3)
    np.testing.assert_array_equal(nn.Linear(6, 5, name="fc2", seed=3).weight.value, alone)
    np.testing.assert_array_equal(alone, init.he_normal((5, 6), seed=3, stream="fc2.weight"))
    assert (nn.Linear(6, 5, name="fc3", seed=3).weight.value != alone).all()
    assert (nn.Linear(6, 5, name="fc2", seed=4).weight.value != alone).all()


def test_groups_are_counted_in_the_fans():
    fan_out = partial(init.he_normal, mode="fan_out")
    layer = nn.Conv2d(8, 12, 3, groups=4, name="grouped", initializer=fan_out, seed=5)
    expected = fan_out((12, 2, 3, 3), groups=4, seed=5, stream="grouped.weight")
    np.testing.assert_array_equal(layer.weight.value, expected)


def test_initializers_that_know_of_no_groups():
    def own(shape, **options):
        return init.normal(shape, **options)

    for initializer in (init.normal, init.zeros, own):
        for groups in (1, 2):
            layer = nn.Conv2d(2, 4, 3, groups=groups, name="c", initializer=initializer, seed=5)
            expected = initializer((4, 2 // groups, 3, 3), seed=5, stream="c.weight")
            np.testing.assert_array_equal(layer.weight.value, expected)


def test_dropout_only_in_training_and_another_mask_each_pass():
    layer = nn.Dropout(0.5, seed=1)
    x = np.ones((50, 50), "float32")
    assert layer.forward(x) is x
    assert layer.backward(x) is x
    first, second = layer.forward(x, True), layer.forward(x, True)
    assert set(np.unique(first)) == {0, 2}
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(x), second)
    again = nn.Dropout(0.5, seed=1)
    np.testing.assert_array_equal(again.forward(x, True), first)


def test_sgd_decays_weights_and_not_slopes():
    net = nn.Sequential([nn.Linear(3, 2, dtype="float64"), nn.PReLU(2, dtype="float64")])
    weight, bias, slope = net.parameters()
    start = weight.value.copy()
    optimizer = nn.SGD(net.parameters(), learning_rate=0.5, momentum=0.9, weight_decay=0.1)
    slope.gradient[:] = 1
    optimizer.step()
    np.testing.assert_allclose(weight.value, start * (1 - 0.05))
    np.testing.assert_allclose(slope.value, 0.25 - 0.5)
    optimizer.step()
    np.testing.assert_allclose(slope.value, 0.25 - 0.5 - (0.45 + 0.5))
    assert not bias.value.any()


def test_plateau_divides_by_ten():
    optimizer = nn.SGD([], learning_rate=0.01)
    plateau = nn.Plateau(optimizer, patience=2, minimum=1e-3)
    assert [plateau.look(e) for e in (0.5, 0.4, 0.4, 0.45, 0.5, 0.6, 0.7)] == [
        False, False, False, True, False, False, False]  # fmt: skip
    assert optimizer.learning_rate == pytest.approx(1e-3)


def test_bad_structures():
    with pytest.raises(ValueError, match="layers must not be empty"):
        nn.Sequential([])
    with pytest.raises(ValueError, match=r"different names.*linear\.bias"):
        nn.Sequential([nn.Linear(2, 2), nn.Linear(2, 2)])
    with pytest.raises(ValueError, match=r"activation must be one of .* not 'gelu'"):
        nn.activation("gelu", name="a")
    for refused, name in (
        ({"groups": 0}, "groups"),
        ({"groups": 3}, "groups"),
        ({"channels": True}, "channels"),
        ({"kernel": (3, 3, 3)}, "kernel"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must"):
            nn.Conv2d(**{"channels": 4, "outputs": 6, "kernel": 3} | refused)
    with pytest.raises(ValueError, match=r"^groups must"):
        nn.Conv2d(4, 3, 3, groups=2)
    with pytest.raises(ValueError, match=r"^rate must"):
        nn.Dropout(1.5)


def test_a_batch_of_nothing_is_flattened():
    layer = nn.Flatten()
    assert layer.forward(np.ones((0, 3, 4, 5), np.float32)).shape == (0, 60)
    assert layer.backward(np.ones((0, 60), np.float32)).shape == (0, 3, 4, 5)
