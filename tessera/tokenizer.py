"""Clip -> windows -> graphs -> codes: the same path for a file, a folder and a request."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tessera.bundle import Bundle
from tessera.chain import Chain
from tessera.clips import Clip
from tessera.codes import Encoding
from tessera.devices import Device, GpuSettings
from tessera.errors import InputError
from tessera.hub import open_bundle
from tessera.limits import Limits, Truncate
from tessera.media import probe
from tessera.opener import ClipOpener
from tessera.profiles import shape_profile
from tessera.runtime import Graph
from tessera.windows import Arrays, Modality, Stage, Window, WindowCodes

_BATCH_WINDOWS = 8

_CODES_ALONE = ("codes", "clip_code")
"""What the graphs are asked for where nobody wants to know more."""


class Tokenizer(ClipOpener):
    """Turns audio, video and text into codes of one alphabet.

    `encode*` are for one clip at a time. A server opens clips, sends their windows through `run_batch` in batches of
    its own making, and assembles: batches hold windows of equal shape, so an answer never depends on its batch.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device | str = "cpu",
        threads: int | None = None,
        limits: Limits | None = None,
        gpu: GpuSettings | None = None,
    ) -> None:
        """Load the graphs of `bundle` on `device`: `cpu`, `cuda`, `tensorrt`, or one GPU of several, as `cuda:1`.

        Raises:
            BundleError: a graph cannot be loaded.
            RuntimeUnavailable: the device is not there.
        """
        super().__init__(bundle, limits)
        self.device = Device.of(device)
        self._graphs = {
            name: Graph(
                bundle.graph(name), self.device, threads, gpu=gpu, profile=shape_profile(self.manifest, name)
            )
            for name in bundle.manifest.graphs
        }
        self._chains: dict[tuple[Modality, Stage], Chain] = {}
        for modality in self.modalities:
            codes = self._graphs[f"{modality}.codes"]
            self._chains[modality, "media"] = Chain(codes, self._graphs[f"{modality}.backbone"])
            self._chains[modality, "features"] = Chain(codes)

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        device: Device | str = "cpu",
        threads: int | None = None,
        limits: Limits | None = None,
        gpu: GpuSettings | None = None,
    ) -> Self:
        """The tokenizer of the bundle in folder `bundle`; without one, of the demo bundle inside the package.

        `hf://owner/name@revision` is a bundle on the Hugging Face hub (extra `hub`); the revision may be left out.
        """
        return cls(open_bundle(bundle), device=device, threads=threads, limits=limits, gpu=gpu)

    @property
    def providers(self) -> list[str]:
        """The execution providers in use."""
        return sorted({graph.provider for graph in self._graphs.values()})

    def encode(
        self,
        source: bytes | str | os.PathLike[str],
        modality: Modality | None = None,
        *,
        start_sec: float = 0.0,
        end_sec: float | None = None,
        truncate: Truncate = "none",
    ) -> Encoding:
        """Codes of a media file (path or bytes), or of a `.txt` file.

        Without `modality` a file with a moving picture is video, any other is audio; `modality="audio"` takes the
        sound track of a video.

        Raises:
            InputError: the input cannot be tokenised; `code` says why.
            FileNotFoundError: no such file.
        """
        if isinstance(source, str | os.PathLike):
            source = Path(source)
            if modality == "text" or (modality is None and source.suffix == ".txt"):
                return self.encode_text(source.read_text(errors="replace"), truncate=truncate)
        if modality == "text":
            raise InputError("invalid_value", "text is given to encode_text, as a string")
        if modality is None:
            modality = "video" if probe(source, self.limits).has_video else "audio"
        clip = self.open(source, modality, start_sec=start_sec, end_sec=end_sec, truncate=truncate)
        return self._encode(clip)

    def encode_text(self, text: str, *, truncate: Truncate = "none") -> Encoding:
        """Codes of a text, one segment a word.

        Raises:
            InputError: `text_too_long`, or `empty_input` when it holds no word.
        """
        return self._encode(self.open_text(text, truncate=truncate))

    def encode_features(self, modality: Modality, features: NDArray[np.float32]) -> Encoding:
        """Codes of backbone features [N, ...] of one clip.

        Raises:
            InputError: `invalid_value` for another shape than the bundle's, or values that are not finite.
        """
        return self._encode(self.open_features(modality, features))

    def run(self, windows: Sequence[Window]) -> list[WindowCodes]:
        """Windows of one `key` through the graphs as one batch; blocks, releasing the interpreter lock."""
        modality, stage, _ = windows[0].key
        batch = {name: np.stack([w.inputs[name] for w in windows]) for name in windows[0].inputs}
        outputs = self.run_batch(modality, stage, batch)
        return [WindowCodes.of(outputs, row) for row in range(len(windows))]

    def run_batch(
        self, modality: Modality, stage: Stage, batch: Mapping[str, NDArray[np.generic]], *, full: bool = True
    ) -> Arrays:
        """The outputs [batch, ...] of the codes graph for windows of equal shape that are stacked in `batch`.

        Without `full`, codes alone. Blocks, releasing the interpreter lock.

        Raises:
            BundleError: the graphs cannot compute them.
        """
        names = self._graphs[f"{modality}.codes"].output_names
        wanted = names if full else [name for name in names if name in _CODES_ALONE]
        return self._chains[modality, stage].run(batch, wanted)

    def idle_batches(self, segments: int = 1) -> Iterator[tuple[Modality, Stage, Arrays]]:
        """For each way in, a batch of one window of so many segments that hold nothing."""
        for modality, stage in self._chains:
            graph = f"{modality}.{'backbone' if stage == 'media' else 'codes'}"
            inputs = self.manifest.graphs[graph].inputs
            yield (
                modality,
                stage,
                {t.name: np.zeros(t.sized(batch=1, time=segments, tokens=segments), t.dtype) for t in inputs},
            )

    def warm_up(self) -> None:
        """Run a real batch of each modality through all graphs; on a GPU, every size of batch of whole windows."""
        segments = self.manifest.time_grid.window_segments if self.device.is_gpu else 1
        for modality, stage, batch in self.idle_batches(segments):
            self._chains[modality, stage].warm_up(batch)

    def _encode(self, clip: Clip) -> Encoding:
        try:
            results = [codes for batch in _batches(clip) for codes in self.run(batch)]
        finally:
            clip.close()
        encoding = self.assemble(clip, results)
        assert isinstance(encoding, Encoding), "full answers make an encoding. This is a bug."
        return encoding


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Consecutive windows of equal key, a few at a time, so that a long clip is never in memory whole."""
    for _, group in itertools.groupby(windows, key=lambda window: window.key):
        while batch := list(itertools.islice(group, _BATCH_WINDOWS)):
            yield batch
