"""Bundles on a hub: `push` gives one out, `pull` takes one in, verified before it is put in place.

A token is never an argument: huggingface_hub takes it from HF_TOKEN, or from where its own login put it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from tessera.bundle import DEMO, MANIFEST, Bundle, parse_manifest
from tessera.errors import BundleError, HubError
from tessera.manifest import Manifest
from tessera.replacement import new_bundle, require_place

SCHEME = "hf://"
_REFERENCE = re.compile(rf"{SCHEME}(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>.+))?")
_CARD = "README.md"


def pull(repo: str, out: str | os.PathLike[str], revision: str | None = None) -> Bundle:
    """Put the bundle of repository `repo` (`owner/name`) into the folder `out`; an older bundle there is replaced.

    Only the manifest, the files that it names and the model card are asked for, all of one commit. Without a network,
    what huggingface_hub has in its cache (`HF_HOME`) is taken.

    Raises:
        HubError: the hub does not have it, or cannot be reached.
        BundleError: it is no whole bundle, or `out` holds something else. `out` is then as before.
    """
    out = Path(out)
    require_place(out)
    _Snapshot.open(repo, revision).copy_to(out)
    return Bundle.load(out)


def push(
    folder: str | os.PathLike[str], repo: str, revision: str | None = None, *, private: bool = False
) -> str:
    """Put the bundle in `folder` into repository `repo` (`owner/name`) as one commit, and return its address.

    The repository is made if there is none, and so is the branch `revision`. Besides what the manifest names goes the
    model card, and nothing else that lies in the folder.

    Raises:
        BundleError: the bundle is not whole.
        HubError: the hub does not take it, cannot be reached, or has the repository as a public one already.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    bundle = Bundle.load(folder)
    names = [MANIFEST, *_named_files(bundle.manifest)]
    card = bundle.folder / _CARD
    if card.is_file() and not card.is_symlink() and _CARD not in names:
        names.append(_CARD)
    api = HfApi()
    with _one_sentence(repo, revision):
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise HubError(f"'{repo}' is public already; choose another name, or make it private on the hub")
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo,
            [CommitOperationAdd(name, bundle.folder / name) for name in names],
            commit_message=f"{bundle.manifest.name} {bundle.revision}",
            revision=revision,
        )
    return commit.commit_url


def open_bundle(reference: str | os.PathLike[str] | None = None) -> Bundle:
    """The bundle in a folder or at `hf://owner/name@revision` (see `fetch`); without either, the demo bundle.

    Raises:
        HubError: there is no such bundle on the hub, or what reads from it is not installed.
        BundleError: it is no whole bundle.
    """
    if isinstance(reference, str) and reference.startswith(SCHEME):
        if find_spec("huggingface_hub") is None:
            raise HubError(f"'{reference}' needs more packages: pip install 'tessera[hub]'")
        return fetch(reference)
    return Bundle.load(reference or DEMO)


def fetch(reference: str) -> Bundle:
    """The bundle `hf://owner/name@revision`; kept beside the hub's cache, a folder a commit.

    Where several processes want the same one, one of them copies it. A copy that has been damaged is made again.

    Raises:
        HubError: it is no such reference, or the hub does not have it or cannot be reached.
        BundleError: it is no whole bundle.
    """
    from filelock import FileLock
    from huggingface_hub import cached_assets_path

    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise HubError(f"'{reference}' is not of the form {SCHEME}owner/name or {SCHEME}owner/name@revision")
    snapshot = _Snapshot.open(match["repo"], match["revision"])
    folder = cached_assets_path("tessera", namespace=match["repo"], subfolder=snapshot.commit)
    if (bundle := _whole(folder)) is not None:
        return bundle
    with FileLock(folder.with_suffix(".lock")):
        if (bundle := _whole(folder)) is not None:
            return bundle
        shutil.rmtree(folder, ignore_errors=True)
        snapshot.copy_to(folder)
    return Bundle.load(folder)


def _whole(folder: Path) -> Bundle | None:
    try:
        return Bundle.load(folder)
    except BundleError:
        return None


@dataclass(frozen=True)
class _Snapshot:
    """One commit of a repository that holds a bundle."""

    repo: str
    commit: str
    manifest: Manifest

    @classmethod
    def open(cls, repo: str, revision: str | None) -> Self:
        """The commit that `revision` stands for, its manifest read."""
        path = _download(repo, MANIFEST, revision)
        return cls(repo, path.parent.name, parse_manifest(_own_file(path).read_bytes()))

    def copy_to(self, out: Path) -> None:
        """Make `out` this bundle, once every file is there and has its hash."""
        with new_bundle(out) as folder:
            for name in [MANIFEST, *_named_files(self.manifest)]:
                self._copy(name, folder)
            with suppress(HubError):  # A bundle is whole without its model card.
                self._copy(_CARD, folder)

    def _copy(self, name: str, folder: Path) -> None:
        shutil.copyfile(_own_file(_download(self.repo, name, self.commit)), folder / name)


def _named_files(manifest: Manifest) -> list[str]:
    return [*(graph.file for graph in manifest.graphs.values()), *manifest.files]


def _download(repo: str, name: str, revision: str | None) -> Path:
    """Where the hub's cache has file `name`: `models--owner--name/snapshots/<commit>/<name>`."""
    from huggingface_hub import hf_hub_download

    with _one_sentence(repo, revision):
        return Path(hf_hub_download(repo, name, revision=revision))


def _own_file(entry: Path) -> Path:
    """The file of a cache entry: itself, or a blob of the same repository that it links to, and no other link."""
    target, repository = entry.resolve(), entry.parents[2].resolve()
    if not target.is_file() or target.parent not in (entry.parent.resolve(), repository / "blobs"):
        raise BundleError(f"{entry.name} is a link that leaves the cache of its repository")
    return target


@contextmanager
def _one_sentence(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface_hub raises into a HubError that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError:
        raise HubError(f"'{repo}' is not the name of a repository: that is owner/name") from None
    except errors.GatedRepoError:
        raise HubError(f"'{repo}' is gated: ask for access on its page, and set HF_TOKEN") from None
    except errors.RepositoryNotFoundError:
        raise HubError(f"the hub has no '{repo}', or HF_TOKEN may not see it") from None
    except errors.RevisionNotFoundError:
        raise HubError(f"'{repo}' has no revision '{revision}'") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise HubError(
            f"'{repo}' is not whole in the local cache, and the hub is switched off or not reached"
        ) from None
    except errors.EntryNotFoundError:
        raise HubError(f"'{repo}' has not all files of a bundle at that revision") from None
    except errors.HfHubHTTPError as error:
        raise HubError(_refusal(repo, error.response.status_code)) from None
    except _transport_errors():
        raise HubError("the hub cannot be reached") from None


def _transport_errors() -> type[Exception]:
    """What the HTTP client of this huggingface_hub raises: httpx, or its successor."""
    from huggingface_hub import errors

    (client,) = (base for base in errors.HfHubHTTPError.__bases__ if base is not OSError)
    return client


def _refusal(repo: str, status: int) -> str:
    if status in (401, 403):
        return f"the hub refuses access to '{repo}': set HF_TOKEN to a token that has the right"
    return f"the hub answered with HTTP status {status} for '{repo}'"
