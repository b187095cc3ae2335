"""The key tables of the released formats, and what is said of a file that fits none of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.errors import TrainingError
from tests.training.released import files
from training.models.catalogue import build_model
from training.released.archive import ReleasedFile, read_released
from training.released.formats import FORMATS, Family, identify

Encoder = dict[str, Tensor]

KNOWN = {
    "dcid": ("DCID of audio, video and text", 142, 80_329_249),
    "dcid-av": ("DCID of audio and video", 102, 77_828_385),
    "dcid-at": ("DCID of audio and text", 84, 5_141_792),
    "micu": ("MICU of audio, video and text", 142, 80_329_249),
    "hdcid": ("H-DCID of audio, video and text", 262, 88_299_841),
    "fcid": ("FCID of audio, video and text", 116, 78_420_001),
}


def hollow(kind: str, *, complete: bool = False) -> dict[str, Any]:
    """A file of a kind whose tensors all hold one number: its names and shapes are what matters."""

    def tensors(shapes: files.Shapes) -> dict[str, Tensor]:
        return {name: torch.ones((), dtype=torch.float64).expand(shape) for name, shape in shapes.items()}

    modalities = files.MODALITIES[kind]
    file: dict[str, Any] = {"Encoder_parameters": tensors(files.encoder_shapes(kind)), "epoch": 3}
    if "text" in modalities and kind != "fcid":
        file["Text_ar_lstm_parameters"] = tensors(files.text_lstm_shapes())
    if complete:
        file["Decoder_parameters"] = tensors(files.decoder_shapes(modalities))
        file["CPC_parameters"] = tensors(files.cpc_shapes(modalities))
        for modality in modalities:
            file[f"{modality.capitalize()}_mi_net_parameters"] = tensors(files.club_shapes(modality))
    return file


def read(file: dict[str, Any], folder: Path) -> ReleasedFile:
    return read_released(files.write(folder / "model.pt", file))


@pytest.mark.parametrize("kind", files.KINDS)
def test_the_tables_have_as_many_tensors_and_numbers_as_the_released_files(kind: str) -> None:
    shapes = files.encoder_shapes(kind)
    assert (len(shapes), files.count(shapes)) == KNOWN[kind][1:]


def test_the_other_modules_of_dcid_have_as_many_too() -> None:
    tables = {
        "LSTM": files.text_lstm_shapes(),
        "decoder": files.decoder_shapes(files.DCID),
        "decoder of audio and video": files.decoder_shapes(("audio", "video")),
        "decoder of audio and text": files.decoder_shapes(("audio", "text")),
        "CPC": files.cpc_shapes(files.DCID),
        "CLUB of video": files.club_shapes("video"),
        "CLUB of audio": files.club_shapes("audio"),
    }
    assert {name: (len(shapes), files.count(shapes)) for name, shapes in tables.items()} == {
        "LSTM": (16, 1_314_816),
        "decoder": (30, 37_402_663),
        "decoder of audio and video": (22, 37_103_514),
        "decoder of audio and text": (16, 532_634),
        "CPC": (30, 3_355_392),
        "CLUB of video": (16, 263_936),
        "CLUB of audio": (16, 197_888),
    }


def test_every_format_is_told_from_its_keys(tmp_path: Path) -> None:
    for kind in files.KINDS:
        family: Family | None = "micu" if kind == "micu" else None
        match = identify(read(hollow(kind), tmp_path), family)
        assert (str(match.format), match.format.tensors) == KNOWN[kind][:2]
        assert set(match.recipe.modalities) == set(files.MODALITIES[kind])
        assert match.recipe.codebook.update == "paper"
    assert {str(format_) for format_ in FORMATS} == {name for name, _, _ in KNOWN.values()}


@pytest.mark.parametrize("kind", ["dcid", "dcid-av", "dcid-at"])
def test_a_complete_file_of_dcid_fills_every_parameter(kind: str, tmp_path: Path) -> None:
    match = identify(read(hollow(kind, complete=True), tmp_path))
    with torch.device("meta"):
        parameters = dict(build_model(match.recipe).named_parameters())
    assert parameters.keys() <= match.names.keys()


def test_the_codebook_may_have_another_size(tmp_path: Path) -> None:
    file = hollow("dcid-at")
    encoder = file["Encoder_parameters"]
    for name in ("embedding", "ema_weight", "ema_count", "unactivated_count"):
        encoder[f"Cross_quantizer.{name}"] = encoder[f"Cross_quantizer.{name}"][:256]
    assert identify(read(file, tmp_path)).recipe.codebook.size == 256


def test_a_file_of_micu_is_one_of_dcid_unless_it_is_said(tmp_path: Path) -> None:
    file = read(hollow("micu"), tmp_path)
    assert identify(file).format.family == "dcid"
    assert identify(file, "micu").format.family == "micu"


@pytest.mark.parametrize(
    ("kind", "family", "message"),
    [
        ("fcid", "dcid", r"'model\.pt' is FCID of audio, video and text, expected a file of family 'dcid'"),
        ("dcid-av", "micu", r"'model\.pt' is DCID of audio and video, expected a file of family 'micu'"),
    ],
)
def test_a_file_of_another_family_is_refused(kind: str, family: Family, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        identify(read(hollow(kind), tmp_path), family)


def without(*names: str) -> Callable[[Encoder], Encoder]:
    return lambda encoder: {name: t for name, t in encoder.items() if not name.startswith(names)}


def with_shape(name: str, *shape: int) -> Callable[[Encoder], Encoder]:
    return lambda encoder: {**encoder, name: torch.ones((), dtype=torch.float64).expand(shape)}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "dcid",
            without("audio_self_att.affine_matrix.bias"),
            r"looks like DCID of audio, video and text, but lacks "
            r"'Encoder_parameters/audio_self_att\.affine_matrix\.bias'$",
        ),
        (
            "fcid",
            without("va2vat.", "t2vat."),
            r"looks like FCID of audio, video and text, but lacks 'Encoder_parameters/t2vat\.linear\.bias' and 3 more",
        ),
        (
            "hdcid",
            without("Cross_quantizer.ema_count"),
            r"looks like H-DCID .*, but lacks 'Encoder_parameters/Cross_quantizer\.ema_count\[0\]' and 1 more",
        ),
        (
            "dcid-at",
            with_shape("text_self_att.affine_matrix.weight", 256, 768),
            r"'Encoder_parameters/text_self_att\.affine_matrix\.weight' is \[256, 768\], expected \[256, 256\]",
        ),
        (
            "dcid-at",
            with_shape("Cross_quantizer.ema_count", 512),
            r"'Encoder_parameters/Cross_quantizer\.ema_count' is \[512\], expected \[400\]",
        ),
        (
            "dcid-av",
            with_shape("video_self_att.encoder.layers.2.norm1.bias", 256),
            r"but also holds 'Encoder_parameters/video_self_att\.encoder\.layers\.2\.norm1\.bias'",
        ),
        (
            "dcid",
            lambda encoder: {f"backbone.{name}": t for name, t in encoder.items()},
            r"has no known format: its encoder has 100 tensors, such as 'Encoder_parameters/backbone\.\S+'\. "
            r"Known are: DCID of audio, video and text \(142 tensors\); .*H-DCID .* \(262 tensors\); FCID .*",
        ),
        ("dcid", lambda encoder: {}, r"has no known format: its encoder has 0 tensors\. Known are: DCID"),
    ],
)
def test_a_file_that_fits_no_format_is_told_what_was_expected(
    kind: str, change: Callable[[Encoder], Encoder], message: str, tmp_path: Path
) -> None:
    file = hollow(kind)
    file["Encoder_parameters"] = change(file["Encoder_parameters"])
    with pytest.raises(TrainingError, match=message):
        identify(read(file, tmp_path))


def test_text_without_its_lstm_is_refused(tmp_path: Path) -> None:
    file = hollow("dcid-at")
    del file["Text_ar_lstm_parameters"]
    message = r"has no 'Text_ar_lstm_parameters', without which it cannot read text"
    with pytest.raises(TrainingError, match=message):
        identify(read(file, tmp_path))


def test_part_of_a_module_is_refused_and_the_whole_of_it_is_not_needed(tmp_path: Path) -> None:
    file = hollow("dcid-at", complete=True)
    del file["Decoder_parameters"]["Audio_decoder.audio_rec.bias"]
    with pytest.raises(TrainingError, match=r"lacks 'Decoder_parameters/Audio_decoder\.audio_rec\.bias'$"):
        identify(read(file, tmp_path))
    del file["Decoder_parameters"]
    assert not any(name.startswith("level.decoders.") for name in identify(read(file, tmp_path)).names)


def test_modules_that_the_model_has_no_use_for_are_passed_over(tmp_path: Path) -> None:
    file = hollow("dcid-av")
    file["Text_ar_lstm_parameters"] = hollow("dcid-at")["Text_ar_lstm_parameters"]
    assert identify(read(file, tmp_path)).format.modalities == ("audio", "video")
