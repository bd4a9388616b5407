"""Random words, streams and shards against the oracle, and what is refused."""

import numpy as np
import pytest
import reference_random as reference
from conftest import everywhere, same_bits

import halfwave as hw
from halfwave.random import stream_number

ALL_ONES = 2**32 - 1


def test_known_answers():
    """Random123's kat_vectors."""
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    for (counter, key), words in {
        ((0,) * 4, (0,) * 2): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ((ALL_ONES,) * 4, (ALL_ONES,) * 2): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        pi: (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }.items():
        assert reference.philox4x32(counter, key) == words
        same_bits(hw.random.philox4x32(counter, key), np.array(words, np.uint32))


@pytest.mark.parametrize("seed", [0, 1, 2**32, 0x299F31D0A4093822, 2**64 - 1])
@pytest.mark.parametrize("stream", [0, 2**64 - 1, "conv1.weight"])
def test_bits(seed, stream):
    expected = reference.words(203, seed, stream)
    same_bits(everywhere(lambda: hw.random.bits(203, seed=seed, stream=stream)), expected)
    assert hw.random.bits((7, 29), seed=seed, stream=stream).tolist() == (
        expected.reshape(7, 29).tolist()
    )


def test_blocks_beyond_32_bits(isa):
    """The carry from the low to the high half of the block number."""
    first = 4 * 2**32 - 40
    expected = reference.words(80, 7, 3, first=first)
    shard = (slice(first, first + 80),)
    same_bits(hw.random.bits(2**58, seed=7, stream=3, shard=shard), expected)
    same_bits(hw.random.bits(2**58, seed=7, stream=3, shard=(slice(first + 79, first - 1, -1),)),
              expected[::-1].copy())  # fmt: skip


def test_streams_by_name():
    names = ["", "conv1", "conv1.weight", "ünïcode", "重み", "a" * 1000]
    numbers = [stream_number(name) for name in names]
    assert numbers == [reference.stream_number(name) for name in names]
    assert len({*numbers}) == len(names)
    # frozen: a changed hash would change every named array
    assert f"{stream_number('conv1.weight'):016x}" == "065d25ecfa07df55"


SHARDS = [
    (slice(None),),
    (slice(3, 11),),
    (slice(None, None, -1),),
    (slice(2, 12, 3), slice(None), slice(1, 4)),
    (slice(None), slice(5, None, 2)),
    (slice(None), slice(None, None, -2), slice(None, None, -1)),
    (slice(None), slice(None), slice(4, 5)),
    (slice(-1, None), slice(-1, None), slice(-1, None)),
    (slice(5, 5),),
    (slice(0, 100), slice(50, 0, -7)),
    (),
]


@pytest.mark.parametrize("shard", SHARDS, ids=str)
@pytest.mark.parametrize("shape", [(13, 17, 5), (1, 17, 5), (3, 1, 1)])
def test_shard_is_the_slice_of_the_whole(shard, shape, isa):
    whole = hw.random.bits(shape, seed=11)
    same_bits(hw.random.bits(shape, seed=11, shard=shard), whole[shard].copy())


def test_shards_across_tasks():
    """Rows longer and shorter than a task's chunk, at every alignment of the words."""
    shape = (5, 40_001)
    whole = hw.random.bits(shape, seed=1)
    for begin in range(5):
        shard = (slice(begin, None), slice(begin, None))
        same_bits(everywhere(lambda s=shard: hw.random.bits(shape, seed=1, shard=s)), whole[shard])
    tall = (40_001, 5)
    whole = hw.random.bits(tall, seed=1)
    shard = (slice(None, None, -1), slice(1, 4))
    same_bits(everywhere(lambda: hw.random.bits(tall, seed=1, shard=shard)), whole[shard].copy())


@pytest.mark.parametrize("shape", [(), 0, (0, 5), (5, 0), 1, (1, 1), 3, 4, 5, 63, 64, 65, 1025])
def test_shapes(shape, isa):
    sizes = (shape,) if isinstance(shape, int) else shape
    words = hw.random.bits(shape, seed=2, stream=9)
    same_bits(words.reshape(-1), reference.words(int(np.prod(sizes)), 2, 9))
    assert words.shape == sizes


def test_many_dimensions():
    shape = (2,) * 17
    whole = hw.random.bits(shape, seed=1)
    same_bits(whole.reshape(-1), hw.random.bits(2**17, seed=1))
    half = (slice(None), slice(1)) * 8
    same_bits(hw.random.bits(shape, seed=1, shard=half), whole[half].copy())


def test_out():
    expected = hw.random.bits((6, 7), seed=3)
    guarded = np.zeros((8, 20), np.uint32)
    for view in (guarded[1:7, 2:16:2], guarded[6:0:-1, 8:1:-1], guarded[1:7, 3:10]):
        guarded[...] = 0xABCDEF01
        assert hw.random.bits((6, 7), seed=3, out=view) is view
        same_bits(view.copy(), expected)
        view[...] = 0xABCDEF01
        assert (guarded == 0xABCDEF01).all()
    misaligned = np.zeros(6 * 7 * 4 + 1, np.uint8)[1:].view(np.uint32).reshape(6, 7)
    hw.random.bits((6, 7), seed=3, out=misaligned)
    same_bits(misaligned.copy(), expected)


BAD = [
    ("seed", {"seed": -1}, ValueError),
    ("seed", {"seed": 2**64}, ValueError),
    ("seed", {"seed": 1.0}, TypeError),
    ("seed", {"seed": None}, TypeError),
    ("seed", {"seed": True}, TypeError),
    ("seed", {"seed": "1"}, TypeError),
    ("stream", {"stream": -1}, ValueError),
    ("stream", {"stream": 2**64}, ValueError),
    ("stream", {"stream": 0.5}, TypeError),
    ("stream", {"stream": b"name"}, TypeError),
    ("stream", {"stream": None}, TypeError),
    ("stream", {"stream": False}, TypeError),
    ("stream", {"stream": "\ud800"}, ValueError),
    ("shape", {"shape": -1}, ValueError),
    ("shape", {"shape": (3, -1)}, ValueError),
    ("shape", {"shape": (2.0, 3)}, TypeError),
    ("shape", {"shape": "33"}, TypeError),
    ("shape", {"shape": None}, TypeError),
    ("shape", {"shape": (2**40, 2**40)}, ValueError),
    ("shape", {"shape": (True, 2)}, TypeError),
    ("shard", {"shard": slice(None)}, TypeError),
    ("shard", {"shard": (1,)}, TypeError),
    ("shard", {"shard": (slice(None),) * 3}, ValueError),
    ("shard", {"shard": (slice(0, 1, 0),)}, ValueError),
    ("shard", {"shard": (slice(0.5),)}, TypeError),
    ("shard", {"shard": (Ellipsis,)}, TypeError),
    ("shard", {"shard": "ab"}, TypeError),
    ("out", {"out": [[0] * 5] * 4}, TypeError),
    ("out", {"out": np.zeros((4, 5), np.int32)}, TypeError),
    ("out", {"out": np.zeros((4, 5), ">u4")}, TypeError),
    ("out", {"out": np.zeros((5, 4), np.uint32)}, ValueError),
    ("out", {"out": np.zeros(20, np.uint32)}, ValueError),
    ("out", {"out": np.broadcast_to(np.uint32(1), (4, 5))}, ValueError),
    ("out", {"out": np.zeros((4, 5), np.uint32), "shard": (slice(1),)}, ValueError),
]


@pytest.mark.parametrize(("name", "change", "error"), BAD)
def test_bits_refuses(name, change, error):
    arguments = {"shape": (4, 5), "seed": 1} | change
    out = arguments.get("out")
    before = out.copy() if isinstance(out, np.ndarray) else None
    with pytest.raises(error, match=name):
        hw.random.bits(**arguments)
    if before is not None:
        same_bits(out, before)


@pytest.mark.parametrize(
    ("counter", "key", "error", "name"),
    [
        ((0, 0, 0), (0, 0), ValueError, "counter"),
        ((0,) * 5, (0, 0), ValueError, "counter"),
        ((0, 0, 0, -1), (0, 0), ValueError, "counter"),
        ((0, 0, 0, 2**32), (0, 0), ValueError, "counter"),
        ((0, 0, 0, 1.0), (0, 0), TypeError, "counter"),
        (0, (0, 0), TypeError, "counter"),
        ("0000", (0, 0), TypeError, "counter"),
        (None, (0, 0), TypeError, "counter"),
        ((0,) * 4, (0,), ValueError, "key"),
        ((0,) * 4, (0, 2**32), ValueError, "key"),
        ((0,) * 4, (0, None), TypeError, "key"),
        ((0,) * 4, 5, TypeError, "key"),
        ((0,) * 4, b"ab", TypeError, "key"),
    ],
)
def test_philox_refuses(counter, key, error, name):
    with pytest.raises(error, match=name):
        hw.random.philox4x32(counter, key)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_contract_s_log(real, rng):
    """The oracle's accuracy; that the kernels' log has its bits is tested through normals and loss."""
    info = np.finfo(real)
    special = np.array([0, -0.0, -1, np.inf, -np.inf, np.nan, 1], real)
    same_bits(
        reference.log(special),
        np.array([-np.inf, -np.inf, np.nan, np.inf, np.nan, np.nan, 0], real),
    )
    x = np.concatenate(
        [
            np.exp(rng.uniform(np.log(info.smallest_normal), np.log(info.max), 20_000)),
            rng.uniform(0.5, 2, 20_000),
            1 + rng.uniform(-1e-3, 1e-3, 20_000),
            rng.integers(1, 2**20, 2000) * float(info.smallest_subnormal),
        ]
    ).astype(real)
    exact = np.log(x.astype(np.longdouble))
    nonzero = exact != 0
    error = np.abs(reference.log(x) - exact)[nonzero] / np.spacing(
        np.abs(exact[nonzero].astype(real))
    )
    assert error.max() < 0.85
