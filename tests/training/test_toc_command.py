"""`tessera toc` on runs and on files of other models, and the picture that it draws."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from matplotlib.image import imread
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from tessera.errors import TrainingError
from tests.training.small import small_recipe
from training.checkpoint import TrainingState, save_checkpoint
from training.models.catalogue import build_model
from training.plots.pictures import write_picture
from training.plots.toc import toc_figure
from training.toc import select, select_channels
from training.toc_command import toc

APP = typer.Typer()
APP.command()(toc)


def run(*arguments: object) -> str:
    """What the command prints; what it raises is raised."""
    done = CliRunner().invoke(APP, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def shown(*arguments: object) -> list[dict[str, Any]]:
    levels: list[dict[str, Any]] = json.loads(run(*arguments, "--json"))["levels"]
    return levels


def planted(codes: int = 40, channels: int = 16, seed: int = 0) -> Tensor:
    """Codes that share the second half of their channels."""
    table = torch.randn(codes, channels, generator=torch.Generator().manual_seed(seed))
    table[:, channels // 2 :] = 3 + 0.1 * table[:, channels // 2 :]
    return table


class VQVAE(nn.Module):
    """A plain one, as anybody writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(3, 16, 4, 2)
        self.codebook = nn.Embedding(40, 16)
        self.decoder = nn.ConvTranspose1d(16, 3, 4, 2)


@pytest.mark.parametrize("method", ["dcid", "hdcid", "dcid-residual"])
def test_every_level_of_a_run(method: str, tmp_path: Path) -> None:
    recipe = small_recipe(method)
    model = build_model(recipe)
    save_checkpoint(tmp_path / "run", 3, model, recipe, TrainingState({}), {})
    levels = shown(tmp_path / "run", "--keep", 5, "--toc-lambda", 0.6)
    tables = [quantizer.table() for quantizer in model.levels()]
    assert [level["kept"] for level in levels] == [select_channels(t, 5, lambda_=0.6) for t in tables]
    names = [level["name"] for level in levels]
    assert names == (["level 1", "level 2"] if method == "hdcid" else ["codebook"])
    assert shown(tmp_path / "run" / "step-000003", "--keep", 5, "--toc-lambda", 0.6) == levels


@pytest.mark.parametrize("suffix", [".safetensors", ".npy", ".pt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_codebook_in_a_file(suffix: str, dtype: torch.dtype, tmp_path: Path) -> None:
    path, table = tmp_path / f"codebook{suffix}", planted().to(dtype)
    if suffix == ".safetensors":
        save_file({"embed": table, "counts": torch.ones(40)}, path)
    elif suffix == ".npy":
        np.save(path, table.numpy())
    else:
        torch.save(table, path)
    (level,) = shown(path, "--keep", 8)
    assert level["kept"] == list(range(8))
    assert (level["codes"], level["channels"], len(level["scores"])) == (40, 16, 16)


def test_levels_in_one_tensor(tmp_path: Path) -> None:
    np.save(tmp_path / "three.npy", np.stack([planted(seed=seed).numpy() for seed in range(3)]))
    levels = shown(tmp_path / "three.npy", "--keep", 4)
    assert [level["kept"] for level in levels] == [select_channels(planted(seed=s), 4) for s in range(3)]


def test_the_codebook_of_a_plain_vq_vae_is_named(tmp_path: Path) -> None:
    model, path = VQVAE(), tmp_path / "vqvae.pt"
    torch.save({"state_dict": model.state_dict(), "step": 7}, path)
    with pytest.raises(TrainingError, match=r"--tensor: state_dict\.codebook\.weight \[40, 16\], state_dict"):
        run(path, "--keep", 4)
    (level,) = shown(path, "--keep", 4, "--tensor", "state_dict.codebook.weight")
    assert level["kept"] == select_channels(model.codebook.weight, 4)


def test_ratios_round_down_as_released(tmp_path: Path) -> None:
    np.save(tmp_path / "codebook.npy", planted().numpy())
    (level,) = shown(tmp_path / "codebook.npy", "--keep", 10, "--ratio", "3:1")
    order = np.argsort(level["scores"])[::-1]
    assert level["kept"] == sorted([*order[:6].tolist(), *order[-2:].tolist()])


def test_the_table_is_for_people(tmp_path: Path) -> None:
    table = planted()
    table[:, 15] = 1.0
    np.save(tmp_path / "codebook.npy", table.numpy())
    printed = run(tmp_path / "codebook.npy", "--keep", 8)
    rows = {
        cells[1].strip(): cells[2].strip()
        for cells in (row.split("│") for row in printed.splitlines() if "│" in row)
    }
    assert rows["channels kept"] == "8 of 16"
    assert rows["dead channels left out"] == "1 of 1"
    assert float(rows["mean cosine before"]) > 0.7 > 0.1 > float(rows["mean cosine after"])
    assert 98 < float(rows["variance kept"].removesuffix(" %")) < 100


class Unsafe:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


def test_wrong_sources_are_said_in_our_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.safetensors", "a.npy", "a.pt"):
        Path(name).write_bytes(b"no such thing")
    Path("code.pt").write_bytes(pickle.dumps(Unsafe()))
    np.save("whole.npy", np.arange(12).reshape(3, 4))
    np.save("vector.npy", np.ones(5))
    np.save("objects.npy", np.array([{}, None]), allow_pickle=True)
    save_file({"x": torch.ones(3, 4), "n": torch.ones(3, dtype=torch.int64)}, "x.safetensors")
    Path("folder").mkdir()
    for arguments, sentence in (
        (["missing.pt"], "there is no file or folder 'missing.pt'"),
        (["folder"], "'folder' holds no checkpoint"),
        (["folder", "--tensor", "x"], "--tensor is for a file"),
        (["whole.npy", "--plot", "x.gif"], "a picture is written as .png, .svg, .pdf, not as 'x.gif'"),
        (["whole.npy"], "'whole.npy' holds no real numbers but int64"),
        (["vector.npy"], "'vector.npy' holds no tensor [codes, channels] or [levels, codes, channels]"),
        (["objects.npy"], "'objects.npy' is damaged, or no NumPy file"),
        (["a.safetensors"], "'a.safetensors' is damaged, or no safetensors file"),
        (["a.npy"], "'a.npy' is damaged, or no NumPy file"),
        (["a.pt"], "'a.pt' is damaged, or no PyTorch file of tensors alone"),
        (["code.pt"], "'code.pt' is damaged, or no PyTorch file of tensors alone"),
        (["x.safetensors", "--tensor", "y"], "holds no tensor 'y'; it could be x [3, 4]"),
        (["x.safetensors", "--tensor", "n"], "'n' is [3] of int64; a codebook is real numbers"),
        (["x.safetensors", "--keep", "9"], "TOC can keep 1 to 4 channels"),
        (["x.safetensors", "--ratio", "3"], "a ratio is written highest:lowest"),
        (["x.safetensors", "--ratio", "0:0"], "a TOC ratio of 0:0"),
    ):
        with pytest.raises(TrainingError) as raised:
            run(*arguments)
        assert sentence in str(raised.value)
    Path("other.txt").write_text("x")
    with pytest.raises(TrainingError, match=r"no run, no checkpoint and none of \.safetensors"):
        run("other.txt")
    assert not Path("pwned").exists()


def panels(path: Path, row: int, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The pixels of the heat maps of one row of a picture, found by the layout of the figure that drew it."""
    selections = {f"level {number}": select(planted(), 8) for number in range(rows)}
    figure = toc_figure(selections, "planted")
    write_picture(path, figure)
    pixels = imread(path)[..., :3]
    boxes = [figure.axes[3 * row + column].get_window_extent() for column in (1, 2)]
    inner = [box.padded(-4) for box in boxes]
    height = len(pixels)
    before, after = (
        pixels[int(height - box.y1) : int(height - box.y0), int(box.x0) : int(box.x1)] for box in inner
    )
    return before, after


@pytest.mark.parametrize("row", [0, 1])
def test_heat_maps_show_that_codes_are_alike_before_and_not_after(row: int, tmp_path: Path) -> None:
    before, after = panels(tmp_path / "toc.png", row, rows=2)
    for panel in (before, after):
        assert min(panel.shape[:2]) > 250
        assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 20
    red, green, blue = np.moveaxis(before, -1, 0)
    assert (red > blue).mean() > 0.99
    bluish = (after[..., 2] > after[..., 0]).mean()
    assert 0.3 < bluish < 0.7
    # The scale is the same for both: the diagonal has the darkest red in each.
    assert np.array_equal(before[4, 4], after[4, 4])
    assert (red - green).mean() > 0.3


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_command_draws_by_suffix(suffix: str, magic: bytes, tmp_path: Path) -> None:
    np.save(tmp_path / "codebook.npy", np.stack([planted().numpy()] * 2))
    path = tmp_path / "new" / f"toc{suffix}"
    run(tmp_path / "codebook.npy", "--keep", 8, "--plot", path)
    assert path.read_bytes().startswith(magic)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    np.save(tmp_path / "codebook.npy", planted().numpy())
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        run(tmp_path / "codebook.npy", "--plot", tmp_path / "file" / "toc.png")


def test_of_a_large_codebook_a_part_is_drawn(tmp_path: Path) -> None:
    figure = toc_figure({"codebook": select(planted(codes=3000, channels=6), 3)}, "large")
    heat_map = figure.axes[1].images[0].get_array()
    assert heat_map is not None
    assert heat_map.shape == (1024, 1024)
    assert figure.axes[1].get_xlabel() == "1024 of the codes"
