"""The command: what it prints, and its exit codes."""

import json
import subprocess
import sys

import pytest
from halfwave._cpu import runtime

import halfwave as hw
from halfwave import _info, cli, fingerprint
from halfwave._cuda import runtime as gpu


def test_info_command(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    for part in ("halfwave", "instruction set", runtime.isa(), "threads", "caches", "GPU", "CuPy"):
        assert part in text


def test_as_a_module():
    command = [sys.executable, "-m", "halfwave", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"halfwave {hw.__version__}\n"


def test_info_as_a_dict():
    facts = hw.info()
    assert facts["isa"] in facts["isas"]
    assert set(facts["isas"]) <= set(facts["isas_compiled"])
    assert facts["threads"] == hw.get_num_threads()
    assert all(c["bytes"] > 0 and c["level"] >= 1 and c["shared_by"] >= 1 for c in facts["caches"])
    json.dumps(facts)


def test_caches_are_read(tmp_path):
    for index, size in enumerate(("48K", "1024K", "oops")):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", index + 1), ("type", "Data"), ("size", size),
                           ("shared_cpu_list", "0-3,8")):  # fmt: skip
            (folder / name).write_text(f"{text}\n")
    found = _info._caches(tmp_path)
    assert [c["bytes"] for c in found] == [48 * 1024, 1024**2]
    assert found[0]["shared_by"] == 5
    assert _info._caches(tmp_path / "none") == []


def test_gpus_are_named(tmp_path):
    card = tmp_path / "0000:01:00.0"
    card.mkdir()
    (card / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    assert _info._gpus(tmp_path) == ["NVIDIA H200"]
    assert _info._gpus(tmp_path / "none") == []


def test_import_is_light():
    code = (
        "import sys, halfwave, halfwave.cli, halfwave.fingerprint; halfwave.info();"
        "print([m for m in ('cupy', 'matplotlib', 'rich', 'mlxtend', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_fingerprint_command(capsys):
    assert cli.main(["fingerprint", "relu", "dirac"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11  # relu, prelu and their gradients, dirac, in both dtypes; and the sum
    assert all(line.endswith("  ok") for line in lines[:-1])
    assert lines[-1] == "10 of 10 as expected"


def test_a_difference_is_told(capsys, monkeypatch):
    wrong = fingerprint.expected() | {"relu float32": "0" * 64}
    monkeypatch.setattr(fingerprint, "expected", lambda: wrong)
    assert cli.main(["fingerprint", "relu float32"]) == 1
    out = capsys.readouterr().out
    assert out.count("DIFFERS") == 1
    assert "1 DIFFER" in out


def test_fingerprint_of_an_unknown_name(capsys):
    assert cli.main(["fingerprint", "relo"]) == 1
    assert "no fingerprint has 'relo'" in capsys.readouterr().err


def test_fingerprint_write(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprint, "PATH", tmp_path / "f.json")
    assert cli.main(["fingerprint", "--write", "dirac"]) == 0
    assert sorted(fingerprint.expected()) == ["init.dirac float32", "init.dirac float64"]
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["study", "--seed", "-1"], ["study", "--seed", "x"],
                                  ["study", "--seed", str(2**63)], ["info", "extra"],
                                  ["study", "--quik"]])  # fmt: skip
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: halfwave" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["study", "--help"], ["fingerprint", "--help"],
                                  ["info", "--help"], ["--version"]])  # fmt: skip
def test_help(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 0
    assert "halfwave" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["study", "fingerprint"])
def test_a_missing_gpu_is_told(command, capsys, monkeypatch, tmp_path):
    def none():
        raise RuntimeError("CuPy finds no GPU")

    monkeypatch.setattr(gpu, "device", none)
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, "--device", "cuda"]) == 1
    assert capsys.readouterr().err == "halfwave: --device cuda: CuPy finds no GPU\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["rich", "matplotlib"])
def test_study_names_the_missing_extra(missing):
    code = (f"import sys; sys.modules[{missing!r}] = None; import halfwave.cli;"
            "sys.exit(halfwave.cli.main(['study']))")  # fmt: skip
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"needs {missing}" in run.stderr
    assert "pip install 'halfwave[study]'" in run.stderr


def test_study_without_mlxtend(capsys, monkeypatch, tmp_path):
    from halfwave.study import data

    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["study", "--out", str(tmp_path)]) == 1
    assert "pip install 'halfwave[study]'" in capsys.readouterr().err


def test_study_with_a_folder_that_is_none(capsys, tmp_path):
    assert cli.main(["study", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_study_that_cannot_write(capsys, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cli.main(["study", "--out", str(blocked)]) == 1
    assert "cannot write" in capsys.readouterr().err
