"""A bundle takes the place of another whole, or the older one stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tessera.bundle import DEMO, Bundle
from tessera.errors import BundleError
from tessera.replacement import new_bundle


def fill(out: Path) -> None:
    with new_bundle(out) as folder:
        shutil.copytree(DEMO, folder, dirs_exist_ok=True)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A bundle with a file that no other has."""
    out = Path(shutil.copytree(DEMO, tmp_path / "home" / "out"))
    (out / "older.txt").write_text("")
    return out


@pytest.mark.parametrize("how", ["new", "older", "here", "link"])
def test_it_is_put_in_place(older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    (tmp_path / "link").symlink_to(older)
    monkeypatch.chdir(older)
    out = {"new": tmp_path / "new", "older": older, "here": Path("."), "link": tmp_path / "link"}[how]
    fill(out)
    place = tmp_path / "new" if how == "new" else older
    assert {path.name for path in place.iterdir()} == {path.name for path in DEMO.iterdir()}
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in older.parent.iterdir()] == ["out"]


def test_an_error_leaves_the_older_one(older: Path) -> None:
    with pytest.raises(BundleError, match=r"no readable manifest\.json"), new_bundle(older) as folder:
        (folder / "half").write_text("")
    with pytest.raises(ZeroDivisionError), new_bundle(older):
        raise ZeroDivisionError
    assert (older / "older.txt").exists()
    assert Bundle.load(older).manifest.name == "fcid-demo"
    assert [path.name for path in older.parent.iterdir()] == ["out"]


def test_where_the_new_one_cannot_go_the_older_one_comes_back(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        fill(older)
    assert (older / "older.txt").exists()


def test_other_things_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(BundleError, match="neither empty nor a bundle"):
        fill(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
