"""A model repository is what its graphs are, and its ensembles give the codes that the tokenizer gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.text_format import ParseError
from onnxruntime import InferenceSession

from export import repository as repository_module
from export.pbtxt import Word, text_format
from export.repository import write_repository
from export.triton import windows_at_once
from tessera import Bundle, Tokenizer
from tessera.bundle import DEMO, MANIFEST, TensorSpec
from tessera.errors import BundleError
from tessera.windows import Window
from tests.export.triton_schema import DATA_TYPES, parse_config

NUMPY = {"uint8": np.uint8, "int64": np.int64, "fp32": np.float32}
TYPES = {onnx.TensorProto.UINT8: "UINT8", onnx.TensorProto.INT64: "INT64", onnx.TensorProto.FLOAT: "FP32"}
MODALITIES = ("audio", "video", "text")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(DEMO)


@pytest.fixture(scope="module")
def repository(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("triton") / "models"
    write_repository(bundle, out, max_batch=4)
    return out


def config(repository: Path, name: str) -> Any:
    return parse_config((repository / name / "config.pbtxt").read_text())


@pytest.mark.parametrize(
    ("inputs", "most", "windows"),
    [
        ({"waveform": ("float32", "batch", "16000*time")}, 64, 64),
        ({"frames": ("uint8", "batch", "time", 4, 112, 112, 3)}, 8, 8),
        ({"frames": ("uint8", "batch", "time", 4, 112, 112, 3)}, 64, 16),
        ({"frames": ("uint8", "batch", "time", 16, 224, 224, 3)}, 8, 1),
        ({"frames": ("uint8", "batch", "time", 16, 448, 448, 3)}, 8, 1),
    ],
)
def test_windows_of_large_pictures_go_one_by_one(
    inputs: dict[str, tuple[str, ...]], most: int, windows: int
) -> None:
    specs = tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, (dtype, *shape) in inputs.items())
    assert windows_at_once(specs, 10, most) == windows


def type_of(tensor: Any) -> str:
    return DATA_TYPES[tensor.data_type]


def names_of(kind: str) -> list[str]:
    ends = {"graphs": ("-backbone", "-codes"), "ensembles": ("",)}[kind]
    return [f"fcid-demo-{modality}{end}" for modality in MODALITIES for end in ends]


def test_every_model_has_its_folder_its_configuration_and_version_1(repository: Path) -> None:
    assert {path.name for path in repository.iterdir()} == {*names_of("graphs"), *names_of("ensembles")}
    for folder in repository.iterdir():
        parsed = config(repository, folder.name)
        assert parsed.name == folder.name
        assert list(parsed.version_policy.specific.versions) == [1]
        assert parsed.max_batch_size == 4
        assert {path.name for path in folder.iterdir()} == {"1", "config.pbtxt"}


@pytest.mark.parametrize("name", names_of("graphs"))
def test_a_configuration_has_the_signature_of_its_graph(repository: Path, name: str) -> None:
    parsed = config(repository, name)
    assert parsed.platform == "onnxruntime_onnx"
    graph = onnx.load(repository / name / "1" / "model.onnx").graph
    for stated, values in ((parsed.input, graph.input), (parsed.output, graph.output)):
        expected = []
        for value in values:
            first, *axes = value.type.tensor_type.shape.dim
            assert first.dim_param == "batch"
            dims = [-1 if axis.dim_param else axis.dim_value for axis in axes]
            expected.append((value.name, TYPES[value.type.tensor_type.elem_type], dims))
        assert [(tensor.name, type_of(tensor), list(tensor.dims)) for tensor in stated] == expected


def test_axes_that_are_known_at_run_time_alone(repository: Path) -> None:
    text, video = (config(repository, f"fcid-demo-{modality}-backbone") for modality in ("text", "video"))
    assert [list(tensor.dims) for tensor in text.input] == [[-1], [-1, -1]]
    assert [list(tensor.dims) for tensor in video.input] == [[-1, 4, 112, 112, 3]]


@pytest.mark.parametrize("name", names_of("graphs"))
def test_requests_are_merged_but_never_padded_and_nothing_waits(repository: Path, name: str) -> None:
    parsed = config(repository, name)
    assert parsed.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert parsed.dynamic_batching.max_queue_delay_microseconds == 0
    assert not any(tensor.allow_ragged_batch for tensor in parsed.input)
    assert not parsed.instance_group


@pytest.mark.parametrize("name", names_of("graphs"))
def test_the_warm_up_runs(repository: Path, name: str) -> None:
    parsed = config(repository, name)
    session = InferenceSession(repository / name / "1" / "model.onnx")
    assert [sample.batch_size for sample in parsed.model_warmup] == [1, 4]
    for sample in parsed.model_warmup:
        feeds = {}
        for key, tensor in sample.inputs.items():
            assert tensor.zero_data
            feeds[key] = np.zeros((sample.batch_size, *tensor.dims), NUMPY[type_of(tensor).lower()])
        outputs = dict(
            zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True)
        )
        for output in parsed.output:
            shape = outputs[output.name].shape
            assert shape[0] == sample.batch_size
            assert [10 if axis == -1 else axis for axis in output.dims] == list(shape[1:])


def run_ensemble(repository: Path, name: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What Triton does with an ensemble: step by step, tensors by the names of the maps."""
    parsed = config(repository, name)
    tensors = {tensor.name: tensors[tensor.name] for tensor in parsed.input}
    for step in parsed.ensemble_scheduling.step:
        session = InferenceSession(repository / step.model_name / str(step.model_version) / "model.onnx")
        feeds = {key: tensors[value] for key, value in step.input_map.items()}
        outputs = dict(
            zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True)
        )
        tensors |= {value: outputs[key] for key, value in step.output_map.items()}
    return {tensor.name: tensors[tensor.name] for tensor in parsed.output}


def windows(tokenizer: Tokenizer) -> list[Window]:
    random = np.random.default_rng(0)
    sound = random.normal(0, 0.1, 3 * 16_000).astype(np.float32)
    frames = random.integers(0, 256, (2, 4, 112, 112, 3), dtype=np.uint8)
    return [
        Window("audio", {"waveform": sound}, 3),
        Window("video", {"frames": frames}, 2),
        *tokenizer.open_text("a church bell rings in the distance"),
    ]


def test_an_ensemble_gives_the_codes_of_the_tokenizer(bundle: Bundle, repository: Path) -> None:
    tokenizer = Tokenizer(bundle, threads=1)
    tested = windows(tokenizer)
    assert [window.modality for window in tested] == list(MODALITIES)
    for window in tested:
        batch = {name: np.stack([array] * 2) for name, array in window.inputs.items()}
        served = run_ensemble(repository, f"fcid-demo-{window.modality}", batch)
        (own,) = tokenizer.run([window])
        for row in range(2):
            assert np.array_equal(served["codes"][row], own.codes)
            assert np.array_equal(served["clip_code"][row], own.clip_code)
            assert np.allclose(served["latents"][row], own.latents, atol=1e-5)


@pytest.mark.parametrize("name", names_of("ensembles"))
def test_an_ensemble_is_of_one_release_and_has_no_scheduler_of_its_own(
    bundle: Bundle, repository: Path, name: str
) -> None:
    parsed = config(repository, name)
    assert parsed.platform == "ensemble"
    assert parsed.WhichOneof("scheduling_choice") == "ensemble_scheduling"
    steps = [(step.model_name, step.model_version) for step in parsed.ensemble_scheduling.step]
    assert steps == [(f"{name}-backbone", 1), (f"{name}-codes", 1)]
    assert parsed.parameters["tessera.bundle"].string_value == bundle.revision
    assert (repository / name / "1" / MANIFEST).read_bytes() == (DEMO / MANIFEST).read_bytes()
    assert not parsed.model_warmup
    outputs = config(repository, f"{name}-codes").output
    assert [(t.name, t.data_type, list(t.dims)) for t in parsed.output] == [
        (t.name, t.data_type, list(t.dims)) for t in outputs
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other_bundle(bundle: Bundle, tmp_path: Path) -> Bundle:
    """Of the same name, but another manifest, so that its ensembles differ."""
    folder = Path(shutil.copytree(DEMO, tmp_path / "other"))
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"licence": "Apache-2.0"', '"licence": "MIT"'))
    other = Bundle.load(folder)
    assert other.revision != bundle.revision
    return other


def test_a_version_never_changes(bundle: Bundle, other_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "models"
    write_repository(bundle, out)
    before = contents(out)
    write_repository(bundle, out)
    assert contents(out) == before
    with pytest.raises(
        BundleError, match="another version 1 of 'fcid-demo-audio'; choose the next --version"
    ):
        write_repository(other_bundle, out, version=1)
    assert contents(out) == before


def versions_of(repository: Path) -> set[tuple[int, ...]]:
    configs = (config(repository, folder.name) for folder in repository.iterdir())
    return {tuple(parsed.version_policy.specific.versions) for parsed in configs}


def test_another_bundle_becomes_the_next_version(
    bundle: Bundle, other_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    for written, version in ((bundle, 1), (other_bundle, 2), (other_bundle, 2), (bundle, 3)):
        write_repository(written, out)
        assert versions_of(out) == {(version,)}
    write_repository(other_bundle, out, version=2)
    assert versions_of(out) == {(2,)}


def test_what_was_broken_off_is_written_to_its_end(
    bundle: Bundle, other_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    write_repository(bundle, out)
    (out / "fcid-demo-audio-codes" / "2").mkdir()
    (out / "fcid-demo-audio-codes" / "2" / "model.onnx").write_bytes(other_bundle.graph("audio.codes"))
    write_repository(other_bundle, out)
    assert versions_of(out) == {(2,)}
    assert (out / "fcid-demo-text" / "2" / MANIFEST).exists()


def test_at_every_moment_ensembles_name_versions_that_are_served(
    bundle: Bundle, other_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "models", set()
    write_repository(bundle, out)
    whole = repository_module.write_whole

    def watched(path: Path, data: bytes) -> None:
        whole(path, data)
        for name in names_of("ensembles"):
            for step in config(out, name).ensemble_scheduling.step:
                served = config(out, step.model_name).version_policy.specific.versions
                assert step.model_version in served
                assert all((out / step.model_name / str(v) / "model.onnx").exists() for v in served)
                seen.add((step.model_version, tuple(served)))

    monkeypatch.setattr(repository_module, "write_whole", watched)
    write_repository(other_bundle, out)
    assert seen == {(1, (1,)), (1, (1, 2)), (2, (1, 2)), (2, (2,))}


def test_a_full_disk_leaves_no_half_of_a_file(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_repository(bundle, tmp_path / "models")
    assert contents(tmp_path / "models") == {}


def test_a_file_in_the_place_of_the_repository(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("important")
    with pytest.raises(BundleError, match="is a file; a model repository is a folder"):
        write_repository(bundle, tmp_path / "models")


def test_the_next_version_lies_beside_the_first_and_is_the_one_served(
    bundle: Bundle, other_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    write_repository(bundle, out)
    first = {name: data for name, data in contents(out).items() if "/1/" in name}
    (out / "fcid-demo-audio-codes" / "configs").mkdir()
    (out / "fcid-demo-audio-codes" / "configs" / "h100.pbtxt").write_text("of the operator")
    write_repository(other_bundle, out, version=2)
    after = contents(out)
    assert {name: data for name, data in after.items() if "/1/" in name} == first
    assert after["fcid-demo-audio-codes/configs/h100.pbtxt"] == b"of the operator"
    parsed = config(out, "fcid-demo-audio")
    assert list(parsed.version_policy.specific.versions) == [2]
    assert {step.model_version for step in parsed.ensemble_scheduling.step} == {2}
    assert parsed.parameters["tessera.bundle"].string_value == other_bundle.revision


def test_the_models_of_others_are_not_touched(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("resnet", "fcid-demo-text"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text('platform: "tensorrt_plan"\n')
    before = contents(tmp_path)
    with pytest.raises(BundleError, match="has a model 'fcid-demo-text' that is not of a bundle"):
        write_repository(bundle, tmp_path / "models")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "model"),
    [("world/dcid 2.1", "world-dcid-2-1-audio"), ("..", "tessera-audio"), ("a_b", "a_b-audio")],
)
def test_a_name_that_triton_takes(bundle: Bundle, tmp_path: Path, name: str, model: str) -> None:
    named = replace(bundle, manifest=bundle.manifest.model_copy(update={"name": name}))
    assert model in write_repository(named, tmp_path / "models")


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        f"from pathlib import Path; from export.triton_command import triton; triton(Path({str(DEMO)!r}), Path('m'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(DEMO.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(f"m/{path.name}" for path in (tmp_path / "m").iterdir())
    assert config(tmp_path / "m", "fcid-demo-audio").max_batch_size == 8


def test_text_format_is_read_back_by_protobuf() -> None:
    name = 'a "quoted" \\ name\nof two lines, ünïcode'
    written = text_format(
        {
            "name": name,
            "max_batch_size": 3,
            "input": [{"data_type": Word("TYPE_FP32"), "dims": [-1, 2], "allow_ragged_batch": True}],
            "dynamic_batching": {},
        }
    )
    parsed: Any = parse_config(written)
    assert parsed.name == name
    assert (type_of(parsed.input[0]), list(parsed.input[0].dims)) == ("FP32", [-1, 2])
    assert parsed.input[0].allow_ragged_batch
    assert parsed.HasField("dynamic_batching")


def test_the_schema_of_these_tests_knows_nothing_else() -> None:
    with pytest.raises(ParseError):
        parse_config('nmae: "x"')
