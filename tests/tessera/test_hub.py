"""Bundles come from a hub whole, or not at all; and what goes out is the bundle and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera import Bundle, Tokenizer
from tessera.bundle import DEMO, MANIFEST, sha256_of
from tests.tessera.small_hub import TOKEN, SmallHub, running_hub

COMMIT, OLDER = "c" * 40, "0" * 40
TEXT = "a church bell rings"
GIVEN = {path.name for path in DEMO.iterdir()}


class Cache:
    """A cache of huggingface_hub, laid out by hand: blobs, and commits that link to them under the files' names."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repository = home / "hub" / "models--owner--bell"

    def add(self, commit: str, folder: Path) -> Path:
        """Put the files of `folder` there as `commit`, the newest of the main branch."""
        snapshot = self.repository / "snapshots" / commit
        for path in (self.repository / "blobs", self.repository / "refs", snapshot):
            path.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            data = path.read_bytes()
            (self.repository / "blobs" / sha256_of(data)).write_bytes(data)
            (snapshot / path.name).symlink_to(Path("../../blobs") / sha256_of(data))
        (self.repository / "refs" / "main").write_text(commit)
        return snapshot


def run(program: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, *program],
        capture_output=True,
        text=True,
        timeout=900,
        env={**outside, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "home")


def pull_offline(cache: Cache, out: Path, *options: str, repo: str = "owner/bell") -> str:
    """Run `tessera pull` without a network; what it says when it fails, or nothing."""
    program = ["-m", "tessera", "pull", repo, "--out", str(out), *options]
    done = run(program, HF_HOME=str(cache.home), HF_HUB_OFFLINE="1")
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    assert done.returncode in (0, 2)
    return done.stderr


def test_a_pulled_bundle_is_plain_files_and_only_its_own(cache: Cache, tmp_path: Path) -> None:
    snapshot = cache.add(COMMIT, DEMO)
    (snapshot / "setup.py").write_text("raise SystemExit")
    out = tmp_path / "out"
    assert pull_offline(cache, out) == ""
    assert {path.name for path in out.iterdir()} == GIVEN
    assert all(path.is_file() and not path.is_symlink() for path in out.iterdir())
    assert Bundle.load(out).revision == Bundle.load(DEMO).revision
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_revision_is_a_branch_or_a_commit(cache: Cache, tmp_path: Path) -> None:
    older = Path(shutil.copytree(DEMO, tmp_path / "older"))
    manifest = json.loads((older / MANIFEST).read_text())
    (older / MANIFEST).write_text(json.dumps({**manifest, "name": "older"}))
    cache.add(OLDER, older)
    cache.add(COMMIT, DEMO)
    (cache.repository / "refs" / "tried").write_text(OLDER)
    for revision, name in (("main", "fcid-demo"), (OLDER, "older"), ("tried", "older")):
        assert pull_offline(cache, tmp_path / "out", "--revision", revision) == ""
        assert Bundle.load(tmp_path / "out").manifest.name == name


def test_a_bundle_replaces_a_bundle_whole(cache: Cache, tmp_path: Path) -> None:
    out = Path(shutil.copytree(DEMO, tmp_path / "out"))
    (out / "older.onnx").write_bytes(b"")
    cache.add(COMMIT, DEMO)
    assert pull_offline(cache, out) == ""
    assert {path.name for path in out.iterdir()} == GIVEN


def test_another_folder_is_left_alone(cache: Cache, tmp_path: Path) -> None:
    cache.add(COMMIT, DEMO)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("important")
    assert "is neither empty nor a bundle" in pull_offline(cache, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def damage(snapshot: Path, how: str) -> None:
    """Spoil `audio.codes.onnx` of a cached bundle, or its manifest, in one of the ways there are."""
    graph, manifest = snapshot / "audio.codes.onnx", snapshot / MANIFEST
    if how == "changed":
        data = bytearray(graph.read_bytes())
        data[len(data) // 2] ^= 1
        graph.resolve().write_bytes(data)
    elif how == "missing":
        graph.unlink()
    elif how == "leaving":
        elsewhere = snapshot.parents[3] / "elsewhere.onnx"
        shutil.copyfile(graph, elsewhere)
        graph.unlink()
        graph.symlink_to(elsewhere)
    elif how == "escaping":
        stated = json.loads(manifest.read_text())
        stated["files"]["../escaped"] = "0" * 64
        manifest.resolve().write_text(json.dumps(stated))
    else:
        manifest.resolve().write_text("{}")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("changed", "audio.codes.onnx has changed since the export: its hash is not the manifest's"),
        (
            "missing",
            "'owner/bell' is not whole in the local cache, and the hub is switched off or not reached",
        ),
        ("leaving", "audio.codes.onnx is a link that leaves the cache of its repository"),
        (
            "escaping",
            "manifest.json is not of schema version 1 to 2: the document: '../escaped' is not a plain file name",
        ),
        ("no manifest", "manifest.json is not of schema version"),
    ],
)
def test_a_spoilt_bundle_leaves_the_old_one_in_place(
    cache: Cache, tmp_path: Path, how: str, sentence: str
) -> None:
    out = Path(shutil.copytree(DEMO, tmp_path / "out"))
    damage(cache.add(COMMIT, DEMO), how)
    said = pull_offline(cache, out)
    assert said.startswith(f"tessera: {sentence}")
    assert said.count("\n") == 1
    assert Bundle.load(out).revision == Bundle.load(DEMO).revision
    assert (out / "README.md").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "out"}


def test_a_repository_is_named_by_its_owner_and_its_name(cache: Cache, tmp_path: Path) -> None:
    said = pull_offline(cache, tmp_path / "out", repo="a/b/c")
    assert said == "tessera: 'a/b/c' is not the name of a repository: that is owner/name\n"


def test_a_tokenizer_opens_what_is_on_the_hub(cache: Cache) -> None:
    cache.add(COMMIT, DEMO)
    program = (
        "from tessera import Tokenizer\n"
        "for name in ('hf://owner/bell', 'hf://owner/bell@main'):\n"
        f"    print(Tokenizer.load(name).encode_text({TEXT!r}).codes.tolist())"
    )
    done = run(["-c", program], HF_HOME=str(cache.home), HF_HUB_OFFLINE="1")
    codes = str(Tokenizer.load().encode_text(TEXT).codes.tolist())
    assert done.stdout.splitlines() == [codes, codes], done.stderr
    assert [path.name for path in (cache.home / "assets").glob("tessera/*/*/")] == [COMMIT]


# The first and the second argument are files: this process is ready, and all may go.
OPENS_BUNDLES = """
import sys, time
from pathlib import Path
from tessera.hub import open_bundle
Path(sys.argv[1]).touch()
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
print([(open_bundle(reference).folder / "manifest.json").stat().st_ino for reference in sys.argv[3:]])
"""


def test_of_two_processes_that_want_the_same_bundle_one_copies_it(cache: Cache, tmp_path: Path) -> None:
    """What one has opened is never taken away by the other: both see the same files, and those stay."""
    commits = [f"{number:040x}" for number in range(8)]
    for commit in commits:
        cache.add(commit, DEMO)
    go, ready = tmp_path / "go", [tmp_path / "one", tmp_path / "other"]
    environment = {**os.environ, "HF_HOME": str(cache.home), "HF_HUB_OFFLINE": "1"}
    references = [f"hf://owner/bell@{commit}" for commit in commits]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS_BUNDLES, path, go, *references],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for path in ready
    ]
    while not all(path.exists() for path in ready):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    go.touch()
    told = [process.communicate(timeout=900) for process in processes]
    assert all(process.returncode == 0 for process in processes), told
    folders = sorted((cache.home / "assets").glob("tessera/*/*/"))
    assert [folder.name for folder in folders] == commits
    files = [(folder / MANIFEST).stat().st_ino for folder in folders]
    assert [said for said, _ in told] == [f"{files}\n"] * 2


@pytest.mark.parametrize("name", ["audio.codes.onnx", MANIFEST])
def test_a_damaged_copy_is_made_again(cache: Cache, name: str) -> None:
    cache.add(COMMIT, DEMO)
    program = ["-c", "from tessera.hub import open_bundle; print(open_bundle('hf://owner/bell').folder)"]
    environment = {"HF_HOME": str(cache.home), "HF_HUB_OFFLINE": "1"}
    folder = Path(run(program, **environment).stdout.strip())
    (folder / name).unlink()
    assert Path(run(program, **environment).stdout.strip()) == folder
    assert Bundle.load(folder).revision == Bundle.load(DEMO).revision


def test_a_file_in_the_place_of_the_bundle_is_told_of_first(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("important")
    assert pull_offline(cache, tmp_path / "out").endswith("out' is a file; a bundle is a folder\n")
    assert (tmp_path / "out").read_text() == "important"


def test_every_command_that_reads_a_bundle_takes_a_reference(cache: Cache) -> None:
    cache.add(COMMIT, DEMO)
    for command in (("inspect",), ("tokenize", "--text", TEXT, "--bundle")):
        done = run(
            ["-m", "tessera", *command, "hf://owner/bell"], HF_HOME=str(cache.home), HF_HUB_OFFLINE="1"
        )
        assert done.returncode == 0, done.stderr


def test_a_bundle_without_a_model_card_is_whole(cache: Cache, tmp_path: Path) -> None:
    (cache.add(COMMIT, DEMO) / "README.md").unlink()
    assert pull_offline(cache, tmp_path / "out") == ""
    assert {path.name for path in (tmp_path / "out").iterdir()} == GIVEN - {"README.md"}


def test_a_reference_without_an_owner_is_told_of() -> None:
    done = run(["-c", "from tessera.hub import fetch; fetch('hf://bell')"])
    assert "tessera.errors.HubError: 'hf://bell' is not of the form hf://owner/name" in done.stderr


@pytest.fixture
def hub() -> Iterator[SmallHub]:
    with running_hub() as hub:
        yield hub


def tessera(
    hub: SmallHub, home: Path, *arguments: str | Path, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    program = ["-m", "tessera", *map(str, arguments)]
    return run(program, HF_ENDPOINT=hub.url, HF_HOME=str(home), HF_TOKEN=token)


def test_what_is_pushed_can_be_pulled(hub: SmallHub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    (folder / "notes.txt").write_text("not for others")
    pushed = tessera(hub, tmp_path / "a", "push", folder, "owner/bell", "--private")
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["owner/bell"]
    assert repository.private
    commit, files = repository.files("main") or ("", {})
    assert pushed.stdout == f"{hub.url}/owner/bell/commit/{commit}\n"
    assert files.keys() == {".gitattributes", *GIVEN}
    pulled = tessera(hub, tmp_path / "b", "pull", "owner/bell", "--out", tmp_path / "out")
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout == f"{tmp_path / 'out'}: fcid-demo, {Bundle.load(DEMO).revision}\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == GIVEN
    assert TOKEN not in pushed.stdout + pushed.stderr + pulled.stdout + pulled.stderr


def test_a_branch_is_made_for_a_revision(hub: SmallHub, tmp_path: Path) -> None:
    for _ in range(2):
        pushed = tessera(hub, tmp_path / "a", "push", DEMO, "owner/bell", "--revision", "tried")
        assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["owner/bell"]
    assert not repository.private
    assert (repository.files("main") or ("", {}))[1].keys() == {".gitattributes"}
    missing = tessera(hub, tmp_path / "b", "pull", "owner/bell", "--out", tmp_path / "out")
    assert missing.stderr == "tessera: 'owner/bell' has not all files of a bundle at that revision\n"
    pull = ("pull", "owner/bell", "--out", tmp_path / "out", "--revision")
    assert tessera(hub, tmp_path / "b", *pull, "tried").returncode == 0
    unknown = tessera(hub, tmp_path / "b", *pull, "never")
    assert unknown.stderr == "tessera: 'owner/bell' has no revision 'never'\n"


def test_a_card_that_is_a_link_stays_here(hub: SmallHub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")
    assert tessera(hub, tmp_path, "push", folder, "owner/bell").returncode == 0
    _, files = hub.repositories["owner/bell"].files("main") or ("", {})
    assert files.keys() == {".gitattributes", *GIVEN} - {"README.md"}


def test_a_private_bundle_does_not_go_where_all_can_see(hub: SmallHub, tmp_path: Path) -> None:
    assert tessera(hub, tmp_path, "push", DEMO, "owner/bell").returncode == 0
    before = hub.repositories["owner/bell"].commits.keys()
    refused = tessera(hub, tmp_path, "push", DEMO, "owner/bell", "--private")
    assert refused.returncode == 2
    assert refused.stderr.startswith("tessera: 'owner/bell' is public already")
    assert hub.repositories["owner/bell"].commits.keys() == before


def test_a_token_without_the_right_and_a_repository_that_is_not_there(hub: SmallHub, tmp_path: Path) -> None:
    refused = tessera(hub, tmp_path, "push", DEMO, "owner/bell", token="hf_other")
    assert refused.returncode == 2
    assert refused.stderr.startswith("tessera: the hub refuses access to 'owner/bell': set HF_TOKEN")
    missing = tessera(hub, tmp_path, "pull", "owner/bell", "--out", tmp_path / "out")
    assert missing.stderr == "tessera: the hub has no 'owner/bell', or HF_TOKEN may not see it\n"


def test_a_damaged_bundle_is_not_pushed(hub: SmallHub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    (folder / "tokenizer.json").write_text("{}")
    refused = tessera(hub, tmp_path, "push", folder, "owner/bell")
    assert refused.stderr.startswith("tessera: tokenizer.json has changed")
    assert hub.repositories == {}


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    nowhere = SmallHub(url="http://127.0.0.1:9")
    pushed = tessera(nowhere, tmp_path, "push", DEMO, "owner/bell")
    assert (pushed.returncode, pushed.stderr) == (2, "tessera: the hub cannot be reached\n")
