"""Keys: how they are made and read, and a file of them that changes while the server runs."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.errors import StartError
from service.security.command import key as key_command
from service.security.key_ring import KeyRing
from service.security.keys import PREFIX, KeysUnreadable, digest_of, new_secret, read_keys
from service.security.protection import warnings_of
from service.settings import Settings
from tests.service.security.secrets import line

FIRST, SECOND = PREFIX + "A" * 43, PREFIX + "B" * 43


def test_a_made_key_is_one_that_the_server_knows() -> None:
    made = CliRunner().invoke(
        key_command, ["new", "--name", "search", "--scopes", "write,infer", "--requests-per-minute", "90"]
    )
    assert made.exit_code == 0
    secret = re.search(r"tsr_[\w-]{43}", made.stderr)
    assert secret
    assert secret.group() not in made.stdout
    ((digest, key),) = read_keys(made.stdout).items()
    assert digest == digest_of(secret.group().encode())
    assert (key.name, key.scopes, key.requests_per_minute) == ("search", {"infer", "write"}, 90)
    assert key.line == made.stdout.strip()


@pytest.mark.parametrize("given", [["--name", "Search"], ["--name", "x", "--scopes", "all"], ["--name", ""]])
def test_a_key_that_would_not_be_read_is_not_made(given: list[str]) -> None:
    refused = CliRunner().invoke(key_command, ["new", *given])
    assert refused.exit_code == 2
    assert "tsr_" not in refused.output


def test_keys_are_random() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000


def test_comments_and_semicolons() -> None:
    text = f"# ours\n\n{line('a', FIRST)}   # a comment; {line('b', SECOND, 'infer,admin')};"
    assert [key.name for key in read_keys(text).values()] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key"),
        ("# nothing", "no key"),
        (FIRST, "line 1: name has characters"),
        ("search", "line 1: sha256 is missing"),
        (f"search {FIRST}", "line 1: behind the name stand fields"),
        (f"search {FIRST}=", "line 1: "),
        (f"search key={FIRST} scopes=infer", "line 1: "),
        (f"\nsearch sha256={FIRST} scopes=infer", "line 2: sha256 has characters"),
        (line("search", FIRST, "everything"), r"scopes\[0\] must be 'infer', 'write' or 'admin'"),
        (line("search", FIRST, ""), "scopes"),
        (line("search", FIRST) + " scopes=admin", "each once"),
        (line("search", FIRST, requests_per_minute=0), "requests_per_minute must be at least 1"),
        (line("search", FIRST, segments_per_minute="inf"), "segments_per_minute must be a finite number"),
        (line("Search", FIRST), "name has characters"),
        (line("a", FIRST) + "\n" + line("a", SECOND), "twice"),
        (line("a", FIRST) + "\n" + line("b", FIRST), "twice"),
        ("\n".join(line(f"k{n}", str(n)) for n in range(1001)), "1001 keys, the limit is 1000"),
    ],
)
def test_what_is_wrong_is_said_without_a_word_of_it(text: str, says: str) -> None:
    with pytest.raises(KeysUnreadable, match=says) as refused:
        read_keys(text)
    assert FIRST not in str(refused.value)
    assert digest_of(FIRST.encode()).hex() not in str(refused.value)


class Time:
    now = 0.0

    def __call__(self) -> float:
        self.now += 2.0
        return self.now


def ring(file: Path) -> KeyRing:
    return KeyRing({}, file, Time())


def names(keys: KeyRing) -> list[str | None]:
    return [found.name if (found := keys.find(each.encode())) else None for each in (FIRST, SECOND)]


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line("a", FIRST))
    keys = ring(file)
    assert names(keys) == ["a", None]
    file.write_text(line("a", FIRST) + "\n" + line("b", SECOND))
    assert names(keys) == ["a", "b"]
    file.write_text(line("b", SECOND))
    assert names(keys) == [None, "b"]


def test_a_link_that_moves_on_is_followed(tmp_path: Path) -> None:
    """As Kubernetes replaces secrets: with the same size, perhaps the same time, and another file."""
    for name, secret in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).write_text(line("a", secret))
        os.utime(tmp_path / name, (1, 1))
    file = tmp_path / "keys"
    file.symlink_to("one")
    keys = ring(file)
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(file)
    assert names(keys) == [None, "a"]


@pytest.mark.parametrize("broken", [b"", b"a sha256=5", b"\xff", b"x" * (2**20 + 1), None])
def test_a_broken_file_changes_nothing_and_is_told_once(
    tmp_path: Path, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(line("a", FIRST))
    keys = ring(file)
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    for _ in range(3):
        assert names(keys) == ["a", None]
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == (1 if broken is not None else len(told))
    assert "the keys of before stay" in told[0].getMessage()
    file.write_text(line("b", SECOND))
    assert names(keys) == [None, "b"]


def test_keys_of_the_environment_and_of_a_file_are_all_good(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line("b", SECOND))
    keys = KeyRing.of(Settings.load(api_keys=line("a", FIRST), api_keys_file=file))
    assert keys is not None
    assert names(keys) == ["a", "b"]
    file.write_text(line("a", SECOND))
    with pytest.raises(StartError, match="TESSERA_API_KEYS_FILE: 'a' is there twice"):
        KeyRing.of(Settings.load(api_keys=line("a", FIRST), api_keys_file=file))


def test_a_server_does_not_start_with_keys_that_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="TESSERA_API_KEYS: line 1"):
        KeyRing.of(Settings.load(api_keys="nonsense"))
    with pytest.raises(StartError, match="TESSERA_API_KEYS_FILE: the file is not there"):
        KeyRing.of(Settings.load(api_keys_file=tmp_path / "none"))
    (tmp_path / "empty").touch()
    with pytest.raises(StartError, match="there is no key"):
        KeyRing.of(Settings.load(api_keys_file=tmp_path / "empty"))


def test_settings_do_not_show_the_keys() -> None:
    assert "sha256" not in repr(Settings.load(api_keys=line("a", FIRST)))


def test_the_operator_is_warned(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line("a", FIRST))
    file.chmod(0o644)
    keys = ring(file)
    assert warnings_of(Settings.load(host="0.0.0.0"), keys) == warnings_of(Settings.load(), keys) != []
    file.chmod(0o600)
    assert warnings_of(Settings.load(host="0.0.0.0"), keys) == []
    assert warnings_of(Settings.load(), None) == warnings_of(Settings.load(host="::1"), None) == []
    (warning,) = warnings_of(Settings.load(host="0.0.0.0"), None)
    assert "NO KEYS" in warning
