"""The paper's networks: layers, costs, and that they train in small."""

from functools import partial

import numpy as np
import pytest

import halfwave as hw
from halfwave import models, nn

PAPER = {
    "14": (14, None),
    "A": (19, 1.90e10),
    "B": (22, 2.32e10),
    "C": (22, 5.30e10),
    "30": (30, None),
}


@pytest.mark.parametrize("name", PAPER)
def test_depth_and_cost(name):
    network = models.PAPER[name]
    depth, cost = PAPER[name]
    assert network.depth == depth
    if cost is not None:
        assert network.multiply_adds() == pytest.approx(cost, rel=0.01)


def test_shapes_of_model_a():
    sizes = {row.name: (row.outputs, row.size) for row in models.MODEL_A.plan()}
    assert sizes["conv1"] == (96, 112)
    assert sizes["conv2_5"] == (256, 56)
    assert sizes["conv3_5"] == (512, 28)
    assert sizes["conv4_5"] == (512, 14)
    assert sizes["spp"] == (512 * 63, 0)
    assert sizes["fc3"] == (1000, 0)


def test_the_30_layer_net_has_27_convolutions():
    rows = models.MODEL_30.rows
    assert sum(isinstance(row, models.Conv) for row in rows) == 27
    assert sum(isinstance(row, models.Full) for row in rows) == 3


def test_table_lists_every_row():
    text = models.MODEL_A.table()
    lines = text.splitlines()
    assert len(lines) == len(models.MODEL_A.rows) + 2
    assert "19 layers" in lines[0]
    assert "7x7, 96, /2" in lines[1]
    assert lines[-1].endswith("19,058,106,368 multiply-adds")


@pytest.mark.parametrize("name", PAPER)
def test_the_plan_is_what_is_built(name):
    network = models.PAPER[name]
    net = network.build(image=32, classes=5, width=1 / 32, channels=2)
    weights = [layer.weight.value.size for layer in net
               if isinstance(layer, (nn.Conv2d, nn.Linear))]  # fmt: skip
    plan = network.plan(image=32, classes=5, width=1 / 32, channels=2)
    assert weights == [row.weights for row in plan if row.weights]
    assert net.forward(np.zeros((3, 2, 32, 32), "float32")).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "activation", "slope"),
    [("14", "prelu", 0.25), ("A", "relu", 0.0), ("C", "prelu_shared", 0.25)],
)
def test_a_small_copy_learns(name, activation, slope, rng):
    x = rng.normal(size=(12, 3, 32, 32)).astype("float32")
    labels = np.arange(12) % 3
    x[np.arange(12), labels] += 2
    net = models.PAPER[name].build(
        image=32,
        classes=3,
        width=1 / 8,
        activation=activation,
        dropout=0,
        initializer=partial(hw.init.he_normal, negative_slope=slope),
    )
    optimizer = nn.SGD(net.parameters(), learning_rate=0.005)
    losses = []
    for _ in range(25):
        logits = net.forward(x, training=True)
        losses.append(float(hw.softmax_cross_entropy(logits, labels)))
        net.backward(hw.softmax_cross_entropy_backward(logits, labels), input_gradient=False)
        optimizer.step()
    assert min(losses[-3:]) < 0.7 * losses[0]


def test_the_papers_own_initialization():
    net = models.MODEL_A.build(image=64, classes=10, width=1 / 4)
    layers = {layer.name: layer for layer in net if layer.name}
    weight = layers["conv2_2"].weight.value
    assert weight.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    assert layers["conv1"].weight.value.std() == pytest.approx(np.sqrt(2 / (49 * 24)), rel=0.05)
    assert layers["fc2"].weight.value.std() == pytest.approx(0.01, rel=0.02)
    assert layers["fc3"].weight.value.std() == pytest.approx(0.001, rel=0.03)
    assert sum(isinstance(layer, nn.Dropout) for layer in net) == 2
    np.testing.assert_array_equal(layers["act2_2"].slope.value, np.full(64, 0.25, "float32"))
    assert not layers["act2_2"].slope.decay


def test_a_new_layer_changes_no_other():
    first, second = (models.fully_connected(depth, seed=4) for depth in (4, 6))
    for p, q in list(zip(first.parameters(), second.parameters(), strict=False))[:6]:
        assert p.name == q.name
        np.testing.assert_array_equal(p.value, q.value)


def test_bad_sizes():
    with pytest.raises(ValueError, match="depth must be at least 1, not 0"):
        models.fully_connected(0)
    with pytest.raises(ValueError, match="image is too small"):
        models.MODEL_14.plan(image=4)
    for refused in ({"image": 0}, {"channels": 2.0}, {"classes": -1}, {"width": float("inf")}):
        with pytest.raises((TypeError, ValueError), match=f"^{next(iter(refused))} must"):
            models.DIGITS.build(**refused)
    with pytest.raises(ValueError, match="width must be positive, not 0"):
        models.DIGITS.build(width=0)
