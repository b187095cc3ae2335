"""The `tessera` command, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tessera import Codes, Tokenizer
from tests.media_files import sine, sound_file


def tessera(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tessera", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "sine.wav"
    path.write_bytes(sound_file("wav", sine(3.0), 16_000))
    return path


def test_help_names_every_command() -> None:
    done = tessera("--help")
    assert done.returncode == 0
    for command in (
        "serve",
        "tokenize",
        "inspect",
        "verify",
        "train",
        "evaluate",
        "toc",
        "export",
        "triton",
        "push",
        "pull",
        "data",
        "bench",
    ):
        assert f" {command} " in done.stdout


def test_json_equals_the_library(bundle_dir: Path, wav: Path) -> None:
    done = tessera("tokenize", wav, "--text", "a dog barks", "--bundle", bundle_dir, "--json")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    tokenizer = Tokenizer.load(bundle_dir)
    assert first == {"source": str(wav), **tokenizer.encode(wav).to_json()}
    assert Codes.from_json(second).to_json() == tokenizer.encode_text("a dog barks").to_json()


def test_the_table_shows_every_segment(bundle_dir: Path, wav: Path) -> None:
    done = tessera("tokenize", wav, "--bundle", bundle_dir)
    assert done.returncode == 0
    assert "audio, 3.0 s" in done.stdout


def test_a_bad_file_is_reported_and_the_next_one_taken(bundle_dir: Path, wav: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    done = tessera(
        "tokenize", tmp_path / "bad.wav", tmp_path / "missing.wav", wav, "--bundle", bundle_dir, "--json"
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["source"] == str(wav)
    assert "bad.wav: not media" in done.stderr
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect_and_verify(bundle_dir: Path) -> None:
    shown = tessera("inspect", bundle_dir)
    assert shown.returncode == 0, shown.stderr
    assert "fcid" in shown.stdout
    assert "video.codes" in shown.stdout
    verified = tessera("verify", bundle_dir)
    assert verified.returncode == 0, verified.stderr
    assert "audio, video, text" in verified.stdout


def test_a_damaged_bundle_is_one_sentence(bundle_copy: Path) -> None:
    (bundle_copy / "tokenizer.json").write_text("{}")
    done = tessera("verify", bundle_copy)
    assert done.returncode == 2
    assert (
        done.stderr
        == "tessera: tokenizer.json has changed since the export: its hash is not the manifest's\n"
    )


def test_the_version() -> None:
    assert tessera("--version").stdout.strip() == version("tessera")


def test_a_command_whose_packages_are_missing_says_what_to_install() -> None:
    program = (
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else real(name, *rest)\n"
        "import sys; sys.argv = ['tessera', 'train', 'demo', '--out', 'x']\n"
        "from tessera.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=900)
    assert done.returncode == 2
    assert done.stderr == "tessera: this command needs more packages: pip install 'tessera[train]'\n"
