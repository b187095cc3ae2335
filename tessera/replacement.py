"""A bundle that takes the place of another: all of it, or the older one stays."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tessera.bundle import MANIFEST, Bundle
from tessera.errors import BundleError


def require_place(out: Path) -> None:
    """Refuse a place early, before what is to go there has been made.

    Raises:
        BundleError: `out` is a file, or a folder that holds something that is no bundle.
    """
    if out.exists() and not out.is_dir():
        raise BundleError(f"'{out}' is a file; a bundle is a folder")
    if out.exists() and not (out / MANIFEST).exists() and any(out.iterdir()):
        raise BundleError(f"'{out}' is neither empty nor a bundle; choose another folder")


@contextmanager
def new_bundle(out: Path) -> Iterator[Path]:
    """An empty folder to fill with a bundle, which is then verified and put in the place of `out`.

    After an error `out` is as it was before.

    Raises:
        BundleError: `out` holds something that is no bundle, or what the folder was filled with is none.
    """
    out = out.resolve()  # "." has a parent, and what a link leads to is replaced, not the link
    require_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        folder, older = Path(work) / "new", Path(work) / "older"
        folder.mkdir()
        yield folder
        Bundle.load(folder)
        if out.exists():
            out.rename(older)
        try:
            folder.rename(out)
        except OSError:
            if older.exists():
                older.rename(out)
            raise
