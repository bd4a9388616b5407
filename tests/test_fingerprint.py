"""The fingerprint is one: on every instruction set, with any number of threads."""

import numpy as np
import pytest
from conftest import ISAS, THREADS
from halfwave._cpu import runtime

from halfwave import fingerprint, init


def test_every_case_is_expected():
    assert list(fingerprint.expected()) == list(fingerprint.CASES)


def test_every_operation_and_initializer_has_a_case():
    import halfwave as hw

    kinds = {name.split()[0].removeprefix("init.") for name in fingerprint.CASES}
    aliases = {name for name in init.__all__ if name.startswith(("glorot_", "kaiming_"))}
    numbers_only = {"fans", "gain"}
    assert set(init.__all__) - aliases - numbers_only <= kinds
    operations = {name for name in hw.__all__ if any(f"{name}{end}" in hw.__all__ for end in
                  ("_backward", "_backward_input"))}  # fmt: skip
    assert operations <= kinds
    assert {f"{name}_backward" for name in operations - {"conv2d", "dropout"}} <= kinds


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("isa", ISAS)
def test_fingerprint(isa, threads):
    runtime.use_isa(isa)
    runtime.set_num_threads(threads)
    found = {name: fingerprint.compute(name) for name in fingerprint.CASES}
    assert found == fingerprint.expected()


def test_one_bit_changes_it(monkeypatch):
    x = np.arange(6, dtype="float32")
    monkeypatch.setitem(fingerprint.CASES, "x", lambda: [x])
    before = fingerprint.compute("x")
    x[3] = np.nextafter(x[3], np.float32(9))
    assert fingerprint.compute("x") != before


@pytest.mark.parametrize("other", [np.zeros(6), np.zeros((2, 3), "float32"),
                                   -np.zeros(6, "float32")])  # fmt: skip
def test_dtype_shape_and_sign_of_zero_count(monkeypatch, other):
    monkeypatch.setitem(fingerprint.CASES, "x", lambda: [np.zeros(6, "float32")])
    before = fingerprint.compute("x")
    monkeypatch.setitem(fingerprint.CASES, "x", lambda: [other])
    assert fingerprint.compute("x") != before


def test_all_nans_are_one(monkeypatch):
    payloads = np.array([0x7FC00000, 0xFFC00001, 0x7F800001], "uint32").view("float32")
    monkeypatch.setitem(fingerprint.CASES, "x", lambda: [payloads])
    before = fingerprint.compute("x")
    monkeypatch.setitem(fingerprint.CASES, "x", lambda: [np.full(3, np.nan, "float32")])
    assert fingerprint.compute("x") == before


def test_write_keeps_the_others(monkeypatch, tmp_path):
    path = tmp_path / "fingerprint.json"
    path.write_text('{"gone": "0", "matmul float32": "1"}')
    monkeypatch.setattr(fingerprint, "PATH", path)
    fingerprint.write({"conv2d float32": "2"})
    assert fingerprint.expected() == {"matmul float32": "1", "conv2d float32": "2"}


@pytest.mark.parametrize("dtype", fingerprint.DTYPES)
def test_inputs_reach_their_range(dtype):
    x = fingerprint.numbers((100_000,), dtype, "x")
    assert len(np.unique(x)) > 99_000
    assert abs(x.astype("float64").mean()) < 0.05 * x.std()
    about = fingerprint.specials(dtype)
    assert np.isnan(about).any()
    assert np.isinf(about).sum() == 2
    assert (about == 0).sum() == 2
    assert (np.abs(about[about != 0]) < np.finfo(dtype).tiny).sum() >= 4
