"""The initializers without chance, and the orthogonal one, on the GPU: the CPU's bits."""

import numpy as np
import pytest
from conftest import same_bits
from test_cuda_random import DTYPES, agrees

import halfwave as hw


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), 0, 1, 7, 4095, 8193, (3, 0), (5, 7, 3)], ids=str)
def test_constant(cuda, shape, dtype):
    agrees(cuda, hw.init.zeros, shape, dtype=dtype)
    agrees(cuda, hw.init.constant, shape, -0.1, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 9), (9, 5), (300, 290)], ids=str)
def test_identity(cuda, shape, dtype):
    agrees(cuda, hw.init.identity, shape, 0.3, dtype=dtype)
    for shard in (np.s_[1:, ::2], np.s_[::-1], np.s_[::-2, ::-3], np.s_[:, 3:4], np.s_[4:2]):
        shard = shard if isinstance(shard, tuple) else (shard,)
        agrees(cuda, hw.init.identity, shape, -1.0, dtype=dtype, shard=shard)


@pytest.mark.parametrize("layout", ["OIHW", "HWIO"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_dirac(cuda, groups, layout):
    for shape in ((8, 6, 3, 3), (8, 3, 5), (4, 3, 2, 1, 8), (8, 0, 3, 8), (2, 3, 1, 4)):
        if shape[0 if layout == "OIHW" else -1] % groups:
            continue
        options = {"groups": groups, "layout": layout}
        agrees(cuda, hw.init.dirac, shape, **options)
        for shard in (np.s_[1:], np.s_[::-2, ::-1], np.s_[:, :, 1:2], np.s_[::3, 1::2, ::-1]):
            shard = shard if isinstance(shard, tuple) else (shard,)
            agrees(cuda, hw.init.dirac, shape, dtype="float16", shard=shard, **options)


# Rows beside the tiles' 64 and their multiples, columns beside the panels' 32 and theirs.
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 9), (9, 1), (5, 5), (33, 31), (31, 33), (65, 32), (70, 65), (2, 130)],
    ids=str,
)
def test_orthogonal(cuda, shape):
    for dtype in DTYPES:
        agrees(cuda, hw.init.orthogonal, shape, 0.7, seed=4, stream="rnn", dtype=dtype)


def test_orthogonal_layouts_shards_and_out(cuda):
    for layout, shape in (("OIHW", (6, 4, 3, 3)), ("HWIO", (3, 3, 4, 40)), ("OIHW", (40, 2, 3))):
        options = {"seed": 8, "layout": layout}
        agrees(cuda, hw.init.orthogonal, shape, -1.5, **options)
        agrees(
            cuda, hw.init.orthogonal, shape, dtype="float16", shard=(slice(1, None, 2),), **options
        )
    agrees(cuda, hw.init.orthogonal, (0, 3), seed=1)
    agrees(cuda, hw.init.orthogonal, (5, 7), seed=1, shard=(slice(3, 3),))


def test_out(cuda):
    for function, arguments in (
        (hw.init.identity, {}), (hw.init.orthogonal, {"seed": 1}), (hw.init.constant, {"value": 3.0}),
    ):  # fmt: skip
        expected = function((9, 12), **arguments)
        whole = cuda.put(np.zeros((9, 24), "f4"))
        out = whole[:, ::2]
        assert function((9, 12), device="cuda", out=out, **arguments) is out
        same_bits(cuda.get(out), expected)
        assert not cuda.get(whole)[:, 1::2].any()
        with pytest.raises(TypeError, match="out must be a CuPy array"):
            function((9, 12), device="cuda", out=expected, **arguments)
        with pytest.raises(TypeError, match="out must be a NumPy array"):
            function((9, 12), out=out, **arguments)
