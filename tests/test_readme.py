"""README's code runs as it stands."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_ten_lines_run():
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(block, names)
    assert names["dalpha"].shape == (64,)
    assert names["dw"].shape == names["w"].shape


def test_each_command_stands_on_one_line():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for block in blocks[:2]:
        assert block.count("\n") == 1
        assert "python3 -m venv" in block
