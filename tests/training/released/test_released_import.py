"""`tessera import-released`: from a released file to a checkpoint like any other."""

from __future__ import annotations

import json
import pickle
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from tessera.errors import TrainingError
from tests.training.released import files
from training.checkpoint import load_model
from training.quantizers.vector import VectorQuantizer
from training.released.command import import_released
from training.released.importer import Imported, import_file

DECAY, SMOOTHING = 0.99, 1e-5


@pytest.fixture(scope="module")
def audio_text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A file of DCID for two modalities, the only one without convolutions."""
    file = files.released("dcid-at")
    return files.write(tmp_path_factory.mktemp("released") / "DCID-model-3.pt", file), file


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "cnt.pkl"
    path.write_bytes(pickle.dumps({1996: 1, 1037: 0, 2003: 2}))
    return path


def run(*arguments: object) -> str:
    app = typer.Typer()
    app.command("import-released")(import_released)
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_checkpoint_is_written_and_the_command_says_what_was_found(
    audio_text: tuple[Path, dict[str, Any]], vocabulary: Path, tmp_path: Path
) -> None:
    out = tmp_path / "[bold] imported"
    said = run(audio_text[0], "--out", out, "--text-vocabulary", vocabulary)
    for sentence in (
        "found DCID of audio and text: 84 tensors, 5,141,792 numbers in the encoder; epoch 3, 2,000 steps",
        "method dcid, 400 codes",
        "loaded 4,671,488 parameters, cast to float32",
        "unused audio_self_att.encoder_layer (12), text_self_att.encoder_layer (12)",
        "untrained 2,961,280 parameters: level.decoders.audio, level.decoders.text, level.predictors.audio, ",
        "words 3 of BERT's vocabulary",
        f"written {out}",
        f"next tessera toc {out} --keep 128",
    ):
        assert sentence in said
    assert "micu" not in said
    assert {file.name for file in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "released.json",
        "text_vocabulary.json",
    }
    assert json.loads((out / "text_vocabulary.json").read_text()) == [1037, 1996, 2003]
    assert not list(tmp_path.glob(".*"))


def test_the_checkpoint_is_one_like_any_other(
    audio_text: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, file = audio_text
    import_file(path, tmp_path / "imported")
    model, recipe, step = load_model(tmp_path / "imported")
    assert (recipe.name, recipe.method, recipe.modalities, step) == (
        "dcid-at-paper",
        "dcid",
        ("audio", "text"),
        2000,
    )
    assert not model.training
    weights = load_file(tmp_path / "imported" / "model.safetensors")
    theirs = file["Encoder_parameters"]["audio_self_att.affine_matrix.weight"]
    assert torch.equal(weights["level.temporal.audio.affine.weight"], theirs.float())
    origin = json.loads((tmp_path / "imported" / "released.json").read_text())
    assert (origin["file"], origin["format"], origin["epoch"]) == (path.name, "DCID of audio and text", 3)
    assert len(origin["sha256"]) == 64


def test_importing_twice_gives_the_same_untrained_weights(
    audio_text: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    state = torch.get_rng_state()
    for name in ("one", "two"):
        import_file(audio_text[0], tmp_path / name)
    assert torch.equal(torch.get_rng_state(), state)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_codebook_moves_on_from_the_released_statistics(
    audio_text: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, file = audio_text
    import_file(path, tmp_path / "imported")
    model, _, _ = load_model(tmp_path / "imported")
    quantizer = next(model.levels())
    assert isinstance(quantizer, VectorQuantizer)
    generator = torch.Generator().manual_seed(0)
    latents = {m: torch.randn(6, 10, 256, generator=generator) for m in ("audio", "text")}
    quantizer.train().quantize(latents, generator)
    counts, sums, idle = moved(file["Encoder_parameters"], latents)
    book = quantizer.codebook
    torch.testing.assert_close(book.counts.double(), counts, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(book.sums.double(), sums, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(book.table.double(), sums / counts.unsqueeze(-1), rtol=1e-3, atol=1e-4)
    assert torch.equal(book.idle.double(), idle)


def moved(encoder: dict[str, Tensor], latents: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """One released update in plain float64: audio, then text, smoothed after each; the older table decides."""
    table, sums = encoder["Cross_quantizer.embedding"], encoder["Cross_quantizer.ema_weight"]
    counts, used = encoder["Cross_quantizer.ema_count"], torch.zeros(files.CODES, dtype=torch.bool)
    vectors = {m: z.double().flatten(0, 1) for m, z in latents.items()}
    mixed = (vectors["audio"] + vectors["text"]) / 2
    for z in vectors.values():
        codes = torch.cdist(z, table).argmin(-1)
        used[codes] = True
        counts = DECAY * counts + (1 - DECAY) * torch.bincount(codes, minlength=files.CODES)
        counts = (counts + SMOOTHING) / (counts.sum() + files.CODES * SMOOTHING) * counts.sum()
        sums = DECAY * sums + (1 - DECAY) * torch.zeros_like(sums).index_add_(0, codes, mixed)
    idle = torch.where(used, 0, encoder["Cross_quantizer.unactivated_count"] + 1)
    return counts, sums, idle


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, dict[str, Tensor], dict[str, Any]]:
    """What becomes of a file of DCID with everything in it."""
    folder, file = tmp_path_factory.mktemp("complete"), files.released("dcid", complete=True)
    path = files.write(folder / "DCID-model-3.pt", file)
    imported = import_file(path, folder / "imported")
    path.unlink()
    weights = load_file(folder / "imported" / "model.safetensors")
    (folder / "imported" / "model.safetensors").unlink()
    return imported, weights, file


def test_a_complete_file_leaves_nothing_untrained(
    complete: tuple[Imported, dict[str, Tensor], dict[str, Any]],
) -> None:
    imported, weights, _ = complete
    assert (imported.untrained, imported.fresh) == ((), 0)
    buffers = sum(weights[name].numel() for name in weights if name.startswith("quantizers."))
    assert imported.loaded == sum(tensor.numel() for tensor in weights.values()) - buffers
    assert imported.unused["Decoder_parameters/video_semantic_decoder"] == 4
    assert imported.unused["video_semantic_encoder.ave_v_att"] == 2
    assert not imported.may_be_micu()


@pytest.mark.parametrize(
    ("ours", "module", "theirs"),
    [
        (
            "level.decoders.video.convolutions.1.conv3.weight",
            "Decoder",
            "Video_decoder.inverse_conv_block.1.stack.0.res_block.1.weight",
        ),
        (
            "level.decoders.video.convolutions.0.weight",
            "Decoder",
            "Video_decoder.inverse_conv_block.0.weight",
        ),
        ("level.decoders.video.general.weight", "Decoder", "Video_decoder.video_linear.weight"),
        ("level.decoders.text.output.weight", "Decoder", "Text_decoder.text_rec.weight"),
        ("level.predictors.audio.context.weight_hh_l1", "CPC", "audio_ar_lstm.weight_hh_l1"),
        ("level.predictors.audio.predict.0.bias", "CPC", "audio_predictors.0.bias"),
        ("level.club.video.mean.6.weight", "Video_mi_net", "p_mu.6.weight"),
        ("level.club.text.log_variance.0.4.bias", "Text_mi_net", "p_logvar.4.bias"),
    ],
)
def test_what_only_training_needs_finds_its_place(
    ours: str, module: str, theirs: str, complete: tuple[Imported, dict[str, Tensor], dict[str, Any]]
) -> None:
    _, weights, file = complete
    assert torch.equal(weights[ours], file[f"{module}_parameters"][theirs].float())


def test_a_file_that_might_be_of_micu_is_told_of(tmp_path: Path) -> None:
    path = files.write(tmp_path / "model.pt", files.released("micu"))
    assert "give --family micu if this is one" in run(path, "--out", tmp_path / "imported")


def test_a_file_of_another_family_is_refused(audio_text: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="expected a file of family 'micu'"):
        run(audio_text[0], "--out", tmp_path / "imported", "--family", "micu")


def test_a_text_vocabulary_needs_text(vocabulary: Path, tmp_path: Path) -> None:
    path = files.write(tmp_path / "model.pt", files.released("dcid-av"))
    with pytest.raises(
        TrainingError, match="is DCID of audio and video: it has no use for a text vocabulary"
    ):
        import_file(path, tmp_path / "imported", vocabulary=vocabulary)
    assert not (tmp_path / "imported").exists()


def test_what_exists_is_never_written_over(audio_text: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "imported").mkdir()
    with pytest.raises(TrainingError, match=r"'.*imported' exists already"):
        import_file(audio_text[0], tmp_path / "imported")


def test_a_full_disk_leaves_nothing_behind(audio_text: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(TrainingError, match="cannot be written"):
            import_file(audio_text[0], tmp_path / "imported")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
