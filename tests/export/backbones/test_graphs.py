"""The graphs of VGGish, VGG19 and BERT: named axes, and at every shape what torch says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from export.onnx import BATCH, TIME, Signature, export_onnx, tensor_specs
from tessera.bundle import AudioSpec, TextSpec, TimeGrid, VideoSpec
from tessera.limits import Limits
from tessera.media import read_audio, read_video
from tessera.runtime import Graph
from tests.export.backbones.conftest import Opened, Public, opened
from tests.media_files import chirp, shades, sound_file, video_file
from training.backbones.choice import Choice
from training.backbones.classic import ClassicVideo
from training.backbones.logmel import LogMel
from training.backbones.vggish import VGGish
from training.backbones.weights import Weights

SHAPES = ((1, 1), (1, 10), (3, 2), (2, 5), (5, 1))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pictures(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)


def require_close(expected: Tensor, found: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def axes(model: Opened) -> tuple[dict[str, list[int | str]], dict[str, list[int | str]]]:
    inputs, outputs = tensor_specs(model.data)
    return {t.name: list(t.shape) for t in inputs}, {t.name: list(t.shape) for t in outputs}


def test_every_dynamic_axis_has_a_name(vggish: Opened, vgg19: Opened, bert: Opened) -> None:
    assert axes(vggish) == ({"waveform": ["batch", "16000*time"]}, {"features": ["batch", "time", 128]})
    assert axes(vgg19) == (
        {"frames": ["batch", "time", 1, 224, 224, 3]},
        {"features": ["batch", "time", 512]},
    )
    assert axes(bert) == (
        {"input_ids": ["batch", "tokens"], "slots": ["batch", "time", "tokens"]},
        {"features": ["batch", "time", 24]},
    )


def test_specs_say_what_serving_must_do(vggish: Opened, vgg19: Opened, bert: Opened) -> None:
    assert vggish.backbone.spec == AudioSpec(backbone="vggish", sample_rate=16_000, feature_dim=128)
    assert vgg19.backbone.spec == VideoSpec(
        backbone="vgg19-caffe", frames_per_segment=1, height=224, width=224, grid=None, feature_dim=512
    )
    assert bert.backbone.spec == TextSpec(backbone="bert", feature_dim=24, words="words.json")


@pytest.mark.parametrize(("batch", "time"), SHAPES)
def test_vggish_at_every_shape(vggish: Opened, batch: int, time: int) -> None:
    expected, found = vggish.both({"waveform": noise(batch, time * 16_000, seed=time)})
    assert expected.shape == (batch, time, 128)
    require_close(expected, found)
    assert found.min() == 0


@pytest.mark.parametrize("options", [",relu=no", ",relu=no,pca={pca}", ",pca={pca},rounding=round"])
def test_every_form_of_vggish(public: Public, options: str) -> None:
    form = opened("audio", public.audio(options.format(pca=public.pca)))
    expected, found = form.both({"waveform": noise(3, 16_000)})
    if form.backbone.step is None:
        require_close(expected, found)
        assert found.min() < 0
    else:
        # At the edge between two whole numbers the two may fall to either side.
        assert form.backbone.step == 1.0
        assert (found - expected).abs().max() <= form.backbone.step
        assert (found != expected).float().mean() < 0.01
        assert torch.equal(found, found.round())


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 1), (1, 3)])
def test_vgg19_at_every_shape(vgg19: Opened, batch: int, time: int) -> None:
    expected, found = vgg19.both({"frames": pictures(batch, time, 1, 224, 224, seed=time)})
    assert expected.shape == (batch, time, 512)
    require_close(expected, found)


def test_vgg19_of_the_other_convention(public: Public, vgg19: Opened) -> None:
    own = opened("video", public.video(",frames=1,convention=torchvision"))
    batch = {"frames": pictures(1, 2, 1, 224, 224)}
    expected, found = own.both(batch)
    require_close(expected, found)
    assert (found - vgg19.both(batch)[1]).abs().max() > 0.1 * found.abs().max()


def test_means_are_those_of_the_maps(vgg19_maps: Opened, vgg19: Opened) -> None:
    assert isinstance(vgg19_maps.backbone.spec, VideoSpec)
    assert vgg19_maps.backbone.spec.grid == 7
    batch = {"frames": pictures(1, 2, 1, 224, 224)}
    expected, found = vgg19_maps.both(batch)
    assert expected.shape == (1, 2, 7, 7, 512)
    require_close(expected, found)
    require_close(found.mean(dim=(2, 3)), vgg19.both(batch)[1])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 60), st.integers(0, 2**31))
def test_bert_at_every_shape(bert: Opened, batch: int, time: int, tokens: int, seed: int) -> None:
    """Also of more tokens than the model has positions for: it has 40."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 29, (batch, tokens), generator=generator)
    slots = torch.rand(batch, time, tokens, generator=generator)
    expected, found = bert.both({"input_ids": ids, "slots": slots})
    assert (found - expected).abs().max() <= 1e-4


def test_recorded_media(vggish: Opened, vgg19: Opened) -> None:
    film = video_file("mp4", shades(range(10, 250, 12), 120, 160), sound=(chirp(2, 44_100), 44_100))
    sound_spec, picture_spec = vggish.backbone.spec, vgg19.backbone.spec
    assert isinstance(sound_spec, AudioSpec)
    assert isinstance(picture_spec, VideoSpec)
    for source in (film, sound_file("mp3", chirp(3.5, 48_000), 48_000)):
        (waveform,) = read_audio(source, sound_spec, TimeGrid(), Limits())
        require_close(*vggish.both({"waveform": torch.from_numpy(waveform.samples)[None]}))
    (window,) = read_video(film, picture_spec, TimeGrid(), Limits())
    require_close(*vgg19.both({"frames": torch.from_numpy(window.frames)[None]}))


class FrontEnd(nn.Module):
    """What VGGish computes before its network."""

    def __init__(self, vggish: VGGish) -> None:
        super().__init__()
        self.vggish = vggish

    def forward(self, waveform: Tensor) -> Tensor:
        return self.vggish.patches(waveform)


@pytest.fixture(scope="module")
def front_end(public: Public) -> Graph:
    signature = Signature({"waveform": (BATCH, 16_000 * TIME)}, {"features": ("patches", 96, 64)})
    module = FrontEnd(VGGish(Weights.read(public.vggish))).eval()
    return Graph(export_onnx(module, {"waveform": torch.zeros(3, 5 * 16_000)}, signature, {}))


def sine() -> Tensor:
    return torch.sin(2 * np.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 16_000)


def test_the_graph_meets_the_log_mel_fixture(front_end: Graph) -> None:
    """In the quietest bands, of which the lowest value is one, float32 samples are not exact enough for that."""
    patches = front_end.run({"waveform": sine()[None].float().numpy()})["features"]
    assert patches.shape == (3, 96, 64)
    statistics = {"mean": patches.mean(dtype=np.float64), "std": patches.std(dtype=np.float64)}
    assert statistics | {"max": patches.max()} == pytest.approx(
        {"mean": -3.429619, "std": 2.126577, "max": 4.811118}, abs=1e-5
    )
    bands = {0: -4.48313, 10: -3.47829, 18: 2.69300, 19: 4.81112, 20: 4.77504, 21: 2.26222, 24: -2.36048}
    assert {band: patches[0, 0, band] for band in bands} == pytest.approx(bands, abs=1e-5)
    assert patches[0, 0, 63] == pytest.approx(-4.60116, abs=5e-5)
    assert patches.min() == pytest.approx(-4.601163, abs=5e-5)
    assert patches.mean(axis=(0, 1)).argmax() == 19


@pytest.mark.parametrize("kind", ["sine", "noise", "silence", "speechlike"])
def test_the_graph_is_the_definition_in_float64(front_end: Graph, kind: str) -> None:
    """Of the samples that it is given, every one of the values."""
    envelope = torch.linspace(0, 1, 48_000) ** 4
    waves = {
        "sine": sine().float(),
        "noise": noise(48_000),
        "silence": torch.zeros(48_000),
        "speechlike": noise(48_000) * envelope + sine().float() * (1 - envelope),
    }
    wave = waves[kind] / waves[kind].abs().max().clamp(min=1)
    seconds = wave.double().reshape(3, 16_000)
    expected = LogMel(torch.float64)(seconds)[:, :96].numpy()
    found = front_end.run({"waveform": wave[None].numpy()})["features"]
    assert np.abs(found - expected).max() < 1e-5


def test_the_classic_ones_go_the_same_way() -> None:
    small = opened("video", Choice.parse("classic"))
    expected, found = small.both({"frames": pictures(2, 3, 4, 112, 112)})
    assert expected.shape == (2, 3, ClassicVideo.spec.feature_dim)
    require_close(expected, found, 1e-4)
