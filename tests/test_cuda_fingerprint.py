"""The fingerprint's cases through the CUDA kernels: a GPU's values are the CPU's."""

import pytest

from halfwave import fingerprint


@pytest.mark.parametrize("name", fingerprint.CASES)
def test_fingerprint(cuda, name):
    """On the CPU in one order of threads: the families' own tests take all."""
    if cuda.emulated and cuda.device.order != "forward":
        return
    assert fingerprint.compute(name, "cuda") == fingerprint.expected()[name]
