"""`tessera pull` and `push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.cli import require_extra

require_extra("hub", "huggingface_hub")

RepoArgument = Annotated[str, typer.Argument(help="Repository on the hub, as owner/name.")]


def pull(
    repo: RepoArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the bundle; an older bundle is replaced.")
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit.  \\[default: the main branch]")
    ] = None,
) -> None:
    """Get a bundle from the Hugging Face hub, or from its local cache, and verify it. HF_TOKEN is the token."""
    from tessera import hub

    bundle = hub.pull(repo, out, revision)
    print(f"{out}: {bundle.manifest.name}, {bundle.revision}")


def push(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    repo: RepoArgument,
    revision: Annotated[
        str | None, typer.Option(help="Branch; made if there is none.  \\[default: the main branch]")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Nobody else may see the repository.")] = False,
) -> None:
    """Put a bundle into a repository of the Hugging Face hub, as one commit. HF_TOKEN is the token."""
    from tessera import hub

    print(hub.push(bundle, repo, revision, private=private))
