"""Backward weight of direct convolution where dw is large: sums over many segments, bit for bit.

A task takes all positions, or a super-segment of them, only where the sums of each segment would
together take mebibytes, so that a convolution of such a size is needed. 257 outputs, more than one
task takes, leave nearly half of the memory that counts unused, and so are the quickest; and the
oracle computes some elements only: those at the corners and others drawn at random.
"""

import itertools

import numpy as np
import pytest
import reference
from conftest import ISAS, THREADS, same_bits
from halfwave._cpu import runtime
from test_conv import in_layout

import halfwave as hw

# dw, and the size of dy: two segments by one task; a super-segment and one position by two.
LARGE = {"segments": ((257, 16, 8, 8), (27, 19)), "super-segments": ((257, 21, 1, 3), (145, 113))}
# Two super-segments and one position by one task: 2 · 10¹⁰ multiply-adds.
LARGEST = ((257, 16, 13, 13), (331, 99))


def some_elements(dy, x, shape, rng):
    """Index and value by CONTRACT.md section 3, of convolutions without padding."""
    drawn = [tuple(int(rng.integers(n)) for n in shape) for _ in range(6)]
    for o, c, r, s in [*itertools.product(*((0, n - 1) for n in shape)), *drawn]:
        seen = x[:, c, r : r + dy.shape[2], s : s + dy.shape[3]]
        yield (o, c, r, s), reference.contract(dy[:, o].reshape(-1), seen.reshape(-1))


def check(shape, size, layout, sets, rng):
    x_size = [n + k - 1 for n, k in zip(size, shape[2:], strict=True)]
    x = rng.standard_normal((1, shape[1], *x_size), np.float32)
    dy = rng.standard_normal((1, shape[0], *size), np.float32)
    expected = dict(some_elements(dy, x, shape, rng))
    there, back = in_layout(x, layout), in_layout(dy, layout)
    first = None
    for name, threads in sets:
        runtime.use_isa(name)
        runtime.set_num_threads(threads)
        dw = hw.conv2d_backward_weight(back, there, shape, layout=layout, algorithm="direct")
        first = dw if first is None else first
        same_bits(dw, first)
    for index, value in expected.items():
        same_bits(first[index], value)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("case", LARGE)
def test_large_sums(case, layout, rng):
    check(*LARGE[case], layout, [(name, n) for name in ISAS for n in THREADS], rng)


@pytest.mark.skipif(ISAS[-1] == "baseline", reason="software multiply-adds would take minutes")
def test_the_largest_sums(rng):
    check(*LARGEST, "NCHW", [(ISAS[-1], n) for n in (1, 3)], rng)


@pytest.mark.parametrize("threads", [2, 4])
def test_groups_whose_gradient_all_tasks_share(threads, rng):
    """One segment, so that tasks divide the taps and dy is packed ahead: each group's own."""
    x = rng.standard_normal((1, 32, 20, 20), np.float32)
    dy = rng.standard_normal((1, 96, 16, 16), np.float32)
    runtime.set_num_threads(1)
    options = {"algorithm": "direct"}
    expected = [
        hw.conv2d_backward_weight(
            np.split(dy, 2, axis=1)[g], np.split(x, 2, axis=1)[g], (48, 16, 5, 5), **options
        )
        for g in range(2)
    ]
    runtime.set_num_threads(threads)
    dw = hw.conv2d_backward_weight(dy, x, (96, 16, 5, 5), groups=2, **options)
    same_bits(dw, np.concatenate(expected))
