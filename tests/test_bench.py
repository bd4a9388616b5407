"""bench/: the tool runs, its arithmetic is right, and README's tables are those of its JSON."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from halfwave._cpu import ceilings

ROOT = Path(__file__).parents[1]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import report

    return report


def results(**seconds):
    """One case of 10⁹ operations."""
    case = {"kind": "a kind", "unit": "GFLOP/s", "work": 1e9, "reference": None,
            "bounds": {"fma": 1e9, "copy": 2e9},
            "seconds": {name.replace("_", " "): times for name, times in seconds.items()}}  # fmt: skip
    return {"machine": {"cpu": "a CPU", "cpus": 2}, "isa": "avx2", "threads": 2, "date": "a day",
            "versions": {"halfwave": "1", "Other": "2"}, "missing": [], "left_out": [], "notes": [],
            "suites": {"matmul": {"a case": case}}}  # fmt: skip


def test_it_runs(tmp_path):
    """Also in a folder that is not the project's, and with few peers."""
    command = [
        sys.executable, ROOT / "bench" / "compare.py", "overhead", "--quick", "--threads", "1",
        "--only", "floats", "--peers", "halfwave", "--peers", "numpy",
        "--json", tmp_path / "out.json", "--chart", tmp_path / "out.png",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "relu of 8 floats" in done.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["notes"] == []
    assert {"halfwave", "NumPy"} <= set(found["versions"])
    relu = found["suites"]["overhead"]["relu of 8 floats"]["seconds"]
    assert set(relu) == {"halfwave", "NumPy"}
    assert all(1e-8 < time < 1e-3 for times in relu.values() for time in times)
    assert (tmp_path / "out.png").stat().st_size > 1000


def test_rows(report):
    found = results(
        halfwave=[0.5, 1.0, 2.0], Slow=[9.0], Other=[1.0, 3.0, 4.0], ceiling_fma=[0.25, 0.5, 1.0]
    )
    (row,) = report.rows(found)
    assert (row.peer, row.peer_speed, row.speed) == ("Other", 1 / 3, 1.0)
    assert (row.low, row.ratio, row.high) == (2.0, 2.0, 2.5)
    assert (row.ceiling, row.share) == ("fma", 0.5)


def test_the_slowest_resource_binds_at_its_fastest_way(report):
    found = results(
        halfwave=[1.0] * 3, ceiling_fma=[0.1] * 3, ceiling_copy=[0.9] * 3,
        ceiling_copy_streaming=[0.8] * 3,
    )  # fmt: skip
    (row,) = report.rows(found)
    assert (row.ceiling, row.share) == ("copy", 0.8)
    assert row.peer is None
    assert math.isnan(row.ratio)
    assert "fma 10 to 10 GFLOP/s, copy 2.5 to 2.5 GB/s" in report.ceilings(found)


def test_a_loss_is_shown(report):
    table = report.markdown(results(halfwave=[2.0] * 3, Other=[1.0] * 3))
    assert "**0.5**" in table


def test_readme_holds_what_the_results_yield(report):
    blocks = report.BLOCK.findall((ROOT / "README.md").read_text())
    assert blocks
    for name, table in blocks:
        found = json.loads((ROOT / "bench" / "results" / name).read_text())
        assert table == report.markdown(found)


def test_two_runs_merge(report):
    one, two = results(halfwave=[1.0]), results(halfwave=[2.0])
    two["suites"] = {"conv": two["suites"]["matmul"]}
    assert set(report.merged(one, two)["suites"]) == {"matmul", "conv"}
    with pytest.raises(ValueError, match="threads"):
        report.merged(one, results() | {"threads": 3})


def test_ceilings_do_what_they_are_named(isa):
    source, target = np.arange(10_000, dtype=np.float32), np.zeros(10_000, np.float32)
    for streaming in (False, True):
        target[:] = 0
        ceilings.write(target, streaming, 2)
        assert 9_900 < (target == 1).sum() <= 10_000
        target[:] = 0
        ceilings.copy(source, target, streaming, 2)
        moved = np.flatnonzero(target)
        assert len(moved) > 9_900
        assert (np.diff(target[moved]) == 1).all()
    ceilings.read(source, 2)
    assert ceilings.multiply_add(1600, 2) % (2 * 1600 * 24) == 0
    with pytest.raises(ValueError, match="plain float32"):
        ceilings.read(source[::2], 1)
