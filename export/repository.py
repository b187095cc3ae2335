"""A model repository of Triton on disk: which version a bundle becomes, and in which order it is written.

Nothing here needs torch: a serving image can make its own repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from export.triton import OWNER, Model, model_names, models_of
from tessera.bundle import Bundle
from tessera.errors import BundleError
from training.files import sha256_of_file, write_whole

CONFIG = "config.pbtxt"

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SERVED = re.compile(r"^\s*versions: (\d+)$", re.MULTILINE)


def write_repository(
    bundle: Bundle, out: Path, *, max_batch: int = 8, version: int | None = None
) -> tuple[str, ...]:
    """Write the graphs of `bundle` to the model repository `out` and return the names of the models.

    Of the bundle `fcid-demo` these are `fcid-demo-audio-backbone`, `fcid-demo-audio-codes`, the ensemble
    `fcid-demo-audio` of both, and so on. In the end every configuration serves exactly `version` and the ensembles name
    it too, so that codes graphs never see features of another bundle's backbone. Beside the ensemble lies the manifest,
    for clients that cut windows. Other models, other versions and an operator's own `configs/` stay as they are; where
    models run (`instance_group`) is left to Triton's defaults and to those.

    Args:
        max_batch: windows in one run of a graph, at most; fewer where they are of many large pictures. The warm-up
            runs that many whole windows, so that a batch that does not fit into memory is told of at the start.
        version: number of the version folders, from 1. By default the newest that is there, if it is of this bundle,
            or else the next one.

    Raises:
        BundleError: `out` holds a model of such a name that is of no bundle, or another one of that version.
    """
    manifest = bundle.manifest
    require_repository(out, manifest.name, manifest.modalities)
    if version is None:
        version = _next_version(bundle, out)
    models = models_of(bundle, max_batch, version)
    if taken := _taken(out, models, version):
        raise BundleError(
            f"the repository has another version {version} of '{taken}'; choose the next --version"
        )
    _write(out, models, version)
    return tuple(model.name for model in models)


def require_repository(out: Path, bundle: str, modalities: Iterable[str]) -> None:
    """Refuse a place early, before the bundle of that name that is to go there has been made.

    Raises:
        BundleError: `out` is a file, or holds a model of such a name that is of no bundle.
    """
    if out.exists() and not out.is_dir():
        raise BundleError(f"'{out}' is a file; a model repository is a folder")
    for modality in modalities:
        for name in model_names(bundle, modality):
            config = out / name / CONFIG
            if config.exists() and f'"{OWNER}"' not in config.read_text(errors="replace"):
                raise BundleError(f"the repository has a model '{name}' that is not of a bundle")


def _next_version(bundle: Bundle, out: Path) -> int:
    models = models_of(bundle, 1, 1)
    folders = (path.name for model in models for path in (out / model.name).glob("*"))
    newest = max((int(name) for name in folders if _VERSION.fullmatch(name)), default=1)
    return newest + 1 if _taken(out, models, newest) else newest


def _taken(out: Path, models: Iterable[Model], version: int) -> str | None:
    """The first model that has something else as that version: a version never changes once it is written."""
    for model in models:
        for path in (out / model.name / str(version)).glob("[!.]*"):
            if path.name != model.file or sha256_of_file(path) != model.sha256:
                return model.name
    return None


def _write(out: Path, models: Sequence[Model], version: int) -> None:
    """Write so that at every moment each ensemble names versions that are served.

    First the files, which no configuration names yet; then the graphs are served in the older and the new version;
    then the ensembles move to the new one; then the older one of the graphs ends.
    """
    for model in models:
        _put(out / model.name / str(version) / model.file, model.data())
    graphs = [model for model in models if not model.ensemble]
    for model in graphs:
        config = out / model.name / CONFIG
        _put(config, model.config_of(sorted({*_served(config), version})))
    for model in [*(model for model in models if model.ensemble), *graphs]:
        _put(out / model.name / CONFIG, model.config_of([version]))


def _served(config: Path) -> set[int]:
    """The versions that a configuration of ours names."""
    return set(map(int, _SERVED.findall(config.read_text()))) if config.exists() else set()


def _put(path: Path, data: bytes) -> None:
    """Whole or not at all, as Triton may be reading; and not again, because it loads anew what has been written."""
    if not path.exists() or path.read_bytes() != data:
        write_whole(path, data)
