"""Sizes at the edge of what exists, iterators without an end, numbers of thousands of digits."""

import itertools

import numpy as np
import pytest
from conftest import same_bits
from test_runtime import python

import halfwave as hw

HUGE = 10**5000  # Python refuses to write it out


def ones(*shape):
    return np.broadcast_to(np.float32(1), shape)


def test_a_contracted_axis_longer_than_memory_is_a_memory_error():
    for k in (2**36, 2**59, 2**60, 2**61 - 1):
        with pytest.raises(MemoryError):
            hw.matmul(ones(1, k), ones(k, 1))


def test_an_empty_axis_beside_an_endless_one_costs_nothing():
    da, db = hw.matmul_backward(ones(2**40, 0, 4), ones(2**40, 0, 5), ones(5, 4))
    assert da.shape == (2**40, 0, 5)
    same_bits(db, np.zeros((5, 4), np.float32))
    assert hw.init.identity((2**40, 0)).shape == (2**40, 0)
    assert hw.init.dirac((2**40, 0, 1)).shape == (2**40, 0, 1)


def test_a_stride_of_two_billion():
    dx = hw.conv2d_backward_input(
        ones(1, 1, 1, 1), ones(1, 1, 1, 1), (1, 1, 9, 9), stride=2**31 - 1
    )
    same_bits(dx, np.eye(1, 81, dtype=np.float32).reshape(1, 1, 9, 9))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: hw.matmul(np.ones((1,) * 17), np.ones(1)), "a must"),
        (lambda: hw.matmul(np.ones(1), np.ones((1,) * 17)), "b must"),
        (lambda: hw.init.zeros((1,) * 65), "shape"),
        (lambda: hw.init.zeros(itertools.count()), "shape"),
        (lambda: hw.random.bits(itertools.repeat(1), seed=1), "shape"),
        (lambda: hw.random.philox4x32(itertools.repeat(1), (0, 0)), "counter"),
        (lambda: hw.random.philox4x32(np.array(3), (0, 0)), "counter"),
        (lambda: hw.init.zeros({2, 3}), "shape"),
        (lambda: hw.init.zeros(HUGE), "shape"),
        (lambda: hw.init.zeros(2, dtype="\ud800"), "dtype"),
        (lambda: hw.init.zeros(2, dtype=HUGE), "dtype"),
        (lambda: hw.init.gain("relu", HUGE), "slope"),
        (lambda: hw.init.lecun_normal((2, 2), gain=1e-300, seed=1), "gain"),
        (lambda: hw.random.bits(2, seed=-HUGE), "seed"),
        (lambda: hw.prelu(ones(2, 2), ones(2), axis=HUGE), "axis"),
        (lambda: hw.dropout(ones(2), HUGE, seed=1), "rate"),
        (lambda: hw.max_pool2d(ones(1, 1, 4, 4), 2**31 - 1, padding=2**31 - 2, stride=1), "padding"),
        (lambda: hw.conv2d(ones(1, 1, 4, 4), ones(1, 1, 1, 1), padding=2**31 - 1, stride=2**31 - 1),
         "padding"),
        (lambda: hw.spatial_pyramid_pool(ones(0, 2**40, 4, 4), [2**15] * 9), "levels"),
    ],
)  # fmt: skip
def test_refused_by_name(call, name):
    with pytest.raises((TypeError, ValueError), match=name):
        call()


class Broken:
    """Says that it has DLPack, and has not."""

    def __dlpack__(self, **options):
        raise AttributeError("nothing here")

    def __dlpack_device__(self):
        return "nowhere"


def test_broken_dlpack():
    with pytest.raises(TypeError, match=r"^x cannot"):
        hw.relu(Broken())
    with pytest.raises(TypeError, match=r"^labels cannot"):
        hw.softmax_cross_entropy(ones(2, 2), Broken())


def test_interleaved_weights_and_velocity_share_nothing():
    both = np.ones((5, 2), np.float32)
    hw.sgd_momentum(both[:, 0], ones(5), both[:, 1], learning_rate=0.5, momentum=0.5)
    same_bits(both, np.tile(np.float32([0, 1]), (5, 1)))


def test_fork_by_a_signal_handler_amid_an_operation():
    """The child has lost what the workers were at: it raises, and computes again afterwards."""
    code = """
        import os, signal, time, numpy as np, halfwave as hw
        hw.set_num_threads(2)
        def draw(n):  # one job, long enough to be polled for signals
            return hw.random.bits(n, seed=1, shard=(slice(None, None, 2),))
        begin = time.perf_counter()
        expected = draw(2**25)
        took = time.perf_counter() - begin
        child = []
        signal.signal(signal.SIGALRM, lambda *_: child.append(os.fork()))
        signal.setitimer(signal.ITIMER_REAL, took / 4)
        try:
            right = (draw(2**25) == expected).all()
        except RuntimeError as error:
            right = child[0] == 0 and "forked" in str(error)
        while not child:
            time.sleep(0.01)
        right = right and (draw(100) == expected[:50]).all()
        if child[0] == 0:
            os._exit(0 if right else 3)
        assert right and os.waitpid(child[0], 0)[1] == 0
    """
    result = python(code)
    assert result.returncode == 0, result.stderr
