"""README's code runs as it stands."""

import re
import sys
from pathlib import Path

import numpy as np
from conftest import same_bits

import halfwave as hw

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_ten_lines_run():
    block, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(block, names)
    assert names["dalpha"].shape == (64,)
    assert names["dw"].shape == names["w"].shape


def test_the_lines_for_a_gpu_run(cuda, monkeypatch):
    _, block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.setitem(sys.modules, "cupy", cuda.arrays)
    names = {}
    exec(block, names)
    w, y, z = (cuda.get(names[name]) for name in "wyz")
    same_bits(w, hw.init.he_normal(w.shape, seed=7, stream="conv1.weight"))
    same_bits(y, hw.conv2d(np.ones((8, 3, 32, 32), "f4"), w, padding="same"))
    flat = y.reshape(8, -1)
    assert np.allclose(z, flat @ flat.T, rtol=1e-2)


def test_each_command_stands_on_one_line():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for block in blocks[:2]:
        assert block.count("\n") == 1
        assert "python3 -m venv" in block
