"""One file three ways: torch, ONNX Runtime and HTTP give the same codes, or differ where the margin is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from tessera import Tokenizer
from tessera.windows import MODALITIES, Modality, Window
from tests.service.running import RunningServer, running_server
from training.backbones.catalogue import build_backbones
from training.checkpoint import load_model
from training.data.clips import write_mp4, write_wav
from training.data.world import Clip, World

KIND = {"audio": "audio/wav", "video": "video/mp4", "text": "text/plain"}


@pytest.fixture(scope="module")
def server(bundle_dir: Path) -> Iterator[RunningServer]:
    with running_server(bundle_dir) as running:
        yield running


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Modality, bytes]]:
    """Clips of different events as files: one of 12 seconds, which is two windows, and shorter ones."""
    folder = tmp_path_factory.mktemp("clips")
    return [
        as_files(World(seed=3, seconds=seconds).clip("test", 40 + seconds), folder)
        for seconds in (12, 3, 2, 1, 4)
    ]


def as_files(clip: Clip, folder: Path) -> dict[Modality, bytes]:
    write_wav(folder / "clip.wav", clip)
    write_mp4(folder / "clip.mp4", clip, fps=8, height=112, width=112, with_sound=False)
    return {
        "audio": (folder / "clip.wav").read_bytes(),
        "video": (folder / "clip.mp4").read_bytes(),
        "text": clip.caption.encode(),
    }


@pytest.mark.parametrize("modality", MODALITIES)
def test_torch_onnx_and_http_agree(
    tiny_run: Path,
    bundle_dir: Path,
    server: RunningServer,
    contents: list[dict[Modality, bytes]],
    modality: Modality,
) -> None:
    tokenizer = Tokenizer.load(bundle_dir)
    kept = list(tokenizer.manifest.kept_channels[0])
    for content in contents:
        data = content[modality]
        clip = tokenizer.open_text(data.decode()) if modality == "text" else tokenizer.open(data, modality)
        windows = list(clip)
        codes, margins, latents = by_torch(tiny_run, windows)
        results = [result for window in windows for result in tokenizer.run([window])]
        by_onnx = np.concatenate([result.codes[:, 0] for result in results])
        answer = httpx.post(
            f"{server.url}/tokenize", content=data, headers={"Content-Type": KIND[modality]}, timeout=900
        )
        assert np.array_equal(np.array(answer.json()["data"][0]["codes"])[:, 0], by_onnx)
        assert (margins[codes != by_onnx] < tokenizer.manifest.parity[modality].epsilon).all()
        assert np.allclose(np.concatenate([r.latents for r in results]), latents[:, kept], atol=1e-3)


def by_torch(checkpoint: Path, windows: list[Window]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, margins and latents of all segments by the checkpoint itself."""
    model, _, _ = load_model(checkpoint)
    backbone = build_backbones((checkpoint / "tokenizer.json").read_text()).of(windows[0].modality)
    codes, margins, latents = [], [], []
    with torch.no_grad():
        for window in windows:
            features = backbone(
                **{name: torch.from_numpy(array)[None] for name, array in window.inputs.items()}
            )
            latents += model.segment_latents(window.modality, features)
            assigned = model.segment_codes(window.modality, features)
            codes.append(assigned.codes[0, :, 0].numpy())
            margins.append(assigned.margins[0, :, 0].numpy())
    return np.concatenate(codes), np.concatenate(margins), torch.cat(latents, dim=1)[0].numpy()
