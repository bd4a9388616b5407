"""The study: its data, that its figures repeat to the last digit, and that it can be interrupted."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import ISAS
from halfwave._cpu import runtime
from rich.console import Console

from halfwave import study
from halfwave.study import data, depth, initializers, report, training

TINY = training.Settings(
    batch=20, every=3, width=16, depths=(3, 5), depth_looks=2, depth_seeds=2, ratio_seeds=2,
    probe_images=40, initializer_depth=4, initializer_looks=1, zero_depth=3, zero_steps=6,
    prelu_looks=1, prelu_seeds=1,
)  # fmt: skip
PLOTS = {
    "depth_curves", "depth_signal", "depth_ratio", "initializers_relu_activations",
    "initializers_relu_gradients", "initializers_tanh_activations", "initializers_tanh_gradients",
    "initializers_zero", "prelu_curves", "prelu_slopes",
}  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.fixture(scope="module")
def few(digits):
    return data.Images("200 digits", digits.train[::20], digits.train_labels[::20],
                       digits.test[::20], digits.test_labels[::20])  # fmt: skip


def _tick():
    pass


def _run(images, out, settings=TINY):
    with open(os.devnull, "w") as nowhere:
        study.run(images, settings, out, Console(file=nowhere))
    return (out / study.FIGURES).read_bytes()


# ---- data ---------------------------------------------------------------------------------------


def test_digits_are_split_evenly(digits):
    assert digits.train.shape == (4000, 1, 28, 28)
    assert digits.test.shape == (1000, 1, 28, 28)
    assert np.bincount(digits.train_labels).tolist() == [400] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10
    assert digits.train.dtype == np.float32
    assert digits.train.min() == 0
    assert digits.train.max() == 1


def _write_mnist(folder, *, packed, drop=None):
    rng = np.random.default_rng(0)
    for stem, count in (("train", 30), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for name, array in ((f"{stem}-images-idx3-ubyte", images),
                            (f"{stem}-labels-idx1-ubyte", labels)):  # fmt: skip
            if name == drop:
                continue
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            raw = header + array.tobytes()
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
            else:
                (folder / name).write_bytes(raw)
    return images, labels


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_files(tmp_path, packed):
    images, labels = _write_mnist(tmp_path, packed=packed)
    loaded = data.load(tmp_path)
    assert loaded.train.shape == (30, 1, 28, 28)
    np.testing.assert_array_equal(loaded.test[:, 0], images.astype("float32") / np.float32(255))
    np.testing.assert_array_equal(loaded.test_labels, labels)


def test_cifar_files(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    loaded = data.load(tmp_path)
    assert loaded.train.shape == (20, 3, 32, 32)
    np.testing.assert_array_equal(loaded.test_labels, records[:, 0])
    assert loaded.test[1, 2, 31, 31] == np.float32(records[1, -1]) / np.float32(255)


def test_a_study_runs_on_colour_images():
    rng = np.random.default_rng(0)
    x, labels = rng.random((40, 3, 32, 32), "float32"), np.arange(40) % 10
    assert json.loads(_figures(data.Images("noise", x, labels, x, labels)))["prelu"]["curves"]


def test_broken_files_are_told(tmp_path):
    with pytest.raises(data.DataError, match="neither MNIST's IDX files"):
        data.load(tmp_path)
    _write_mnist(tmp_path, packed=False, drop="t10k-labels-idx1-ubyte")
    with pytest.raises(data.DataError, match="lacks MNIST's file t10k-labels"):
        data.load(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    for raw, message in ((b"abc", "not an IDX file"), (b"\0\0\x08\x01\0\0\0\x05abc", "should hold 5"),
                         (b"\0\0\x08\x01\0\0\0\x02ab", "do not go with")):  # fmt: skip
        path.write_bytes(raw)
        with pytest.raises(data.DataError, match=message):
            data.load(tmp_path)
    path.write_bytes(b"\0\0\x08\xc8" + b"\0\0\0\x01" * 200 + b"\0")
    with pytest.raises(data.DataError, match="not an IDX file"):
        data.load(tmp_path)
    path.unlink()
    packed = gzip.compress(b"\0\0\x08\x01\0\0\0\x0a0123456789")
    for raw in (b"abc", packed[:-12], packed[:12] + b"\xff" + packed[13:]):
        (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(raw)
        with pytest.raises(data.DataError, match="cannot be read"):
            data.load(tmp_path)


def test_images_to_train_and_to_test_are_of_one_size(tmp_path):
    _write_mnist(tmp_path, packed=False)
    small = b"\0\0\x08\x03\0\0\0\x0a\0\0\0\x02\0\0\0\x02" + b"\0" * 40
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(small)
    with pytest.raises(data.DataError, match=r"images of \(28, 28\) to train, of \(2, 2\) to test"):
        data.load(tmp_path)


# ---- figures ------------------------------------------------------------------------------------


def _figures(images, settings=TINY):
    found = {item.name: item.run(images, settings, _tick) for item in study.EXPERIMENTS}
    return json.dumps(found)


def test_figures_repeat_on_every_instruction_set_and_thread_count(few):
    first = _figures(few)
    for isa in ISAS:
        for threads in (1, 3):
            runtime.use_isa(isa)
            runtime.set_num_threads(threads)
            assert _figures(few) == first
    assert _figures(few, replace(TINY, seed=1)) != first


def test_what_a_study_leaves(few, tmp_path):
    figures = json.loads(_run(few, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        study.FIGURES, study.TIMES, *(f"{name}.png" for name in PLOTS)}  # fmt: skip
    for name in PLOTS:
        raw = (tmp_path / f"{name}.png").read_bytes()
        assert raw.startswith(b"\x89PNG")
        assert raw.rstrip().endswith(b"IEND\xaeB`\x82")
    assert {"depth", "initializers", "prelu"} <= figures.keys()
    assert set(figures["depth"]["curves"]) == {"3", "5"}
    assert len(figures["prelu"]["slopes"]["prelu"]["conv1_1"]["values"]) == 8
    assert json.loads((tmp_path / study.TIMES).read_text())["seconds"].keys() == {
        "depth", "initializers", "prelu"}  # fmt: skip


def test_ticks_are_counted(few):
    for item in study.EXPERIMENTS:
        calls = []
        item.run(few, TINY, lambda calls=calls: calls.append(1))
        assert len(calls) == item.ticks(TINY)


def test_gradient_ratio_at_30_layers(digits):
    settings = training.Settings(ratio_seeds=4, probe_images=250)
    found = depth.ratios(digits, settings, _tick)
    assert found["theory"] == pytest.approx(2**14.5)
    assert found["first_layer"]["mean"] == pytest.approx(2**14.5, rel=0.15)
    assert found["first_layer_glorot"]["mean"] == pytest.approx(17012, rel=0.15)
    for layer, ratio in enumerate(found["by_layer"], 1):
        assert ratio == pytest.approx(2 ** ((30 - layer) / 2), rel=0.15)


def test_he_keeps_the_signal_and_xavier_loses_it(digits):
    settings = training.Settings(probe_images=250)
    he, xavier = (
        depth.signal_by_layer(digits, settings, 30, scheme, 1) for scheme in depth.SCHEMES
    )
    assert 0.1 < he["response_std"][-1] / he["response_std"][0] < 10
    assert xavier["response_std"][-1] / xavier["response_std"][0] < 1e-3
    assert xavier["gradient_std"][0] / xavier["gradient_std"][-2] < 1e-3


def test_zero_weights(few):
    found = {name: initializers._movement(few, TINY, name, initializers.initializers()["Zero"], _tick)
             for name in initializers.ZERO_ACTIVATIONS}  # fmt: skip
    for name in ("relu", "tanh"):
        assert not any(found[name]["weights_moved"])
        assert found[name]["biases_moved"][:-1] == [0, 0]
        assert found[name]["biases_moved"][-1] > 0
    assert all(moved > 0 for moved in found["sigmoid"]["weights_moved"])
    for name in found:
        assert found[name]["different_units"][:-1] == [1, 1]


def test_a_30_layer_net_learns_with_he_and_not_with_xavier(digits):
    settings = training.Settings()
    errors = {}
    for scheme in depth.SCHEMES:
        net = depth._net(digits, settings, 30, scheme, 0)
        errors[scheme] = training.train(net, digits, settings, looks=5, seed=0,
                                        tick=_tick)["test_error"][-1]  # fmt: skip
    assert errors["He"] < 0.6
    assert errors["Xavier"] > 0.85


def test_statistics():
    assert training.mean([0.5, 1.5, 4.0]) == 2
    assert training.std([1.0, 3.0]) == 1
    found = training.magnitudes(np.array([0, -0.0, 0.75, -0.5, 1, 3, np.nan, np.inf]))
    assert found == {"count": 8, "zero": 2, "not_finite": 2, "exponents": [0, 1, 2],
                     "counts": [2, 1, 1]}  # fmt: skip


# ---- files and interrupts -----------------------------------------------------------------------


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a.json"
    report.write_json(path, {"x": [1.0, float("nan"), float("inf")]})
    assert json.loads(path.read_text()) == {"x": [1.0, None, None]}

    def fail(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report.write(path, fail)
    assert json.loads(path.read_text())["x"][0] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_study_keeps_what_is_done(few, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    broken = [item if item.name == "depth" else item._replace(run=interrupt)
              for item in study.EXPERIMENTS]  # fmt: skip
    monkeypatch.setattr(study, "EXPERIMENTS", broken)
    with (open(os.devnull, "w") as nowhere,
          pytest.raises(study.Interrupted, match=r"depth; not finished: initializers, prelu"),
          ):  # fmt: skip
        study.run(few, TINY, tmp_path, Console(file=nowhere))
    figures = json.loads((tmp_path / study.FIGURES).read_text())
    assert "depth" in figures
    assert "prelu" not in figures
    assert {path.stem for path in tmp_path.glob("*.png")} == {p for p in PLOTS if "depth" in p}


def test_sigint_ends_the_command_with_130(tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-m", "halfwave", "study", "--out", str(out)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        until = time.monotonic() + 30
        while not out.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert out.exists()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "not finished: depth, initializers, prelu" in errors
    assert "Traceback" not in errors
    assert not list(out.iterdir())
