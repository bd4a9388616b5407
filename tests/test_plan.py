"""halfwave.plan: what serves a shape, told without computing anything."""

import re
from pathlib import Path

import pytest

import halfwave as hw
from halfwave import _plan


def test_of_a_product():
    plan = hw.plan("matmul", (7, 3, 20000), (20000, 5))
    assert (plan.algorithm, plan.slices, plan.rows, plan.columns) == ("direct", 7, 3, 5)
    assert (plan.contracted, plan.segments, plan.super_segments) == (20000, 40, 2)


def test_of_the_passes_of_a_convolution():
    shapes = (8, 64, 57, 56), (128, 32, 3, 5)
    options = {"stride": (2, 3), "padding": (1, 2), "groups": 2}
    forward = hw.plan("conv2d", *shapes, **options)
    assert (forward.slices, forward.rows, forward.columns) == (2, 64, 8 * 29 * 19)
    assert forward.contracted == 32 * 15
    weight = hw.plan("conv2d_backward_weight", *shapes, **options)
    assert (weight.rows, weight.columns, weight.contracted) == (64, 480, 8 * 29 * 19)
    given = hw.plan("conv2d_backward_input", *shapes, **options)
    assert (given.rows, given.columns) == (32, 8 * 29 * 19)
    assert given.contracted == 64 * 2 * 2
    nhwc = hw.plan("conv2d", (8, 57, 56, 64), shapes[1], layout="NHWC", **options)
    assert nhwc == forward


def test_lengths_are_the_contracts_and_the_kernels():
    text = (Path(__file__).parents[1] / "kernels/common/contraction.h").read_text()
    lengths = dict(re.findall(r"#define (\w+)\s+(\d+)", text))
    assert int(lengths["HW_SEGMENT"]) == _plan.SEGMENT
    assert int(lengths["HW_SUPER_SEGMENT"]) == _plan.SUPER_SEGMENT


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (("fft", (2, 2), (2, 2)), "operation"), ((None, (2, 2), (2, 2)), "operation"),
        (("matmul", (2, 2)), "shapes"), (("matmul", (2, 2), (2, 2), (2, 2)), "shapes"),
        (("matmul", (2, 3), (2, 3)), "b must"), (("matmul", (2, -3), (2, 3)), "shapes"),
        (("matmul", "ab", (2, 3)), "shapes"), (("conv2d", (1, 2, 3), (1, 2, 3, 4)), "x must"),
        (("conv2d", (1, 2, 3, 3), (1, 2, 3, 4)), "w spans"),
        (("", (2, 2), (2, 2)), "operation"), ((1, (2, 2), (2, 2)), "operation"),
        ((["matmul"], (2, 2), (2, 2)), "operation"), (("Matmul", (2, 2), (2, 2)), "operation"),
        (("matmul",), "shapes"), (("matmul", (2, 2), None), "shapes"),
        (("matmul", (2, 2.0), (2, 2)), "shapes"), (("matmul", (2, True), (1, 2)), "shapes"),
        (("matmul", (2, "2"), (2, 2)), "shapes"), (("matmul", (2, 2**61), (2, 2)), "shapes"),
        (("matmul", (), (2, 2)), "a must"), (("matmul", (2, 2), ()), "b must"),
        (("matmul", (3, 2, 2), (4, 2, 2)), "b must"), (("conv2d", (1, 2, 5, 5), (1, 2, 3)), "w must"),
        (("conv2d", (1, 2, 5, 5), (1, 3, 3, 3)), "w must"),
        (("conv2d", (1, 2, 5, 5), (1, 2, 0, 3)), "w must"),
        (("conv2d_backward_input", (1, 2, 5, 5), (1, 2, 6, 3)), "w spans"),
        (("conv2d_backward_weight", (1, 2, 5), (1, 2, 3, 3)), "x must"),
    ],
)  # fmt: skip
def test_bad_calls(call, name):
    with pytest.raises((TypeError, ValueError), match=name):
        hw.plan(*call)


def test_bad_options():
    with pytest.raises(TypeError, match="options"):
        hw.plan("matmul", (2, 2), (2, 2), stride=1)
    with pytest.raises(TypeError, match="options has no strides"):
        hw.plan("conv2d", (1, 1, 3, 3), (1, 1, 3, 3), strides=1)
    for name, values in {
        "algorithm": ("fft", None, 1), "stride": (0, 1.5, None), "padding": (-1, "full", (1, 2, 3)),
        "dilation": (0, "1"), "groups": (0, 2, None), "layout": ("NWHC", 1),
    }.items():  # fmt: skip
        for value in values:
            with pytest.raises((TypeError, ValueError), match=name):
                hw.plan("conv2d", (1, 1, 3, 3), (1, 1, 3, 3), **{name: value})
