"""Bundles: how the settings name them, and several of them behind one server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundles import BundleChoice, bundle_choices
from service.contract import ModelsResponse
from service.errors import StartError
from service.settings import Settings
from tessera.tokenizer import Tokenizer
from tests.service.running import running_server, serve_command

TEXT = "a dog barks in the rain"


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("folder", BundleChoice("folder")),
        ("hf://owner/name@v1,name=a", BundleChoice("hf://owner/name@v1", name="a")),
        ("f,name=a.b-c_1,device=cuda:1,threads=4,weight=2.5", BundleChoice("f", "a.b-c_1", "cuda:1", 4, 2.5)),
        ("f,weight=1e-3,threads=1024", BundleChoice("f", threads=1024, weight=0.001)),
        ("one, two,three", BundleChoice("one, two,three")),
        ("one,two,name=a", BundleChoice("one,two", name="a")),
        ("one,name=a,two", BundleChoice("one,name=a,two")),
        ("one,colour=red", BundleChoice("one,colour=red")),
        (",name=a", BundleChoice(None, name="a")),
        ("name=a", BundleChoice(None, name="a")),
    ],
)
def test_a_choice_is_a_source_and_the_options_at_its_end(text: str, choice: BundleChoice) -> None:
    assert BundleChoice.parse(text) == choice


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("name=a,name=b", "name is given twice"),
        ("weight=1,threads=1,weight=1", "weight is given twice"),
        ("name=", "a name has letters"),
        ("name=a b", "a name has letters"),
        ("name=../a", "a name has letters"),
        (f"name={'a' * 65}", "at most 64"),
        ("threads=0", "threads is a whole number"),
        ("threads=-1", "threads is a whole number"),
        ("threads=1.5", "threads is a whole number"),
        ("threads=1025", "threads is a whole number"),
        ("threads=", "threads is a whole number"),
        ("threads=²", "threads is a whole number"),
        ("weight=0", "weight is a number"),
        ("weight=nan", "weight is a number"),
        ("weight=inf", "weight is a number"),
        ("weight=heavy", "weight is a number"),
        ("weight=1001", "weight is a number"),
    ],
)
def test_an_option_that_cannot_be_taken_is_one_sentence(options: str, says: str) -> None:
    with pytest.raises(StartError) as caught:
        BundleChoice.parse(f"folder,{options}")
    said = str(caught.value)
    assert said.startswith(f"bundle 'folder,{options}': ")
    assert says in said
    assert "\n" not in said


@given(text=st.text())
def test_any_text_is_a_choice_or_one_sentence(text: str) -> None:
    try:
        choice = BundleChoice.parse(text)
    except StartError:
        return
    assert text.startswith(choice.source or "")


def test_one_setting_has_several_and_without_any_it_is_the_demo() -> None:
    several = Settings.load(bundle="a,name=x; b ;;hf://c/d")
    assert [each.source for each in bundle_choices(several)] == ["a", "b", "hf://c/d"]
    for none in (None, "", " ; "):
        assert bundle_choices(Settings.load(bundle=none)) == [BundleChoice(None)]


@pytest.fixture(scope="module")
def others(bundle_dir: Path) -> Iterator[httpx.Client]:
    """A server of the tiny bundle as `big`, of the demo as `small`, and of the tiny bundle once more."""
    bundles = f"{bundle_dir},name=big,weight=3;,name=small,threads=1;{bundle_dir}"
    with running_server(None, "--bundle", bundles) as server, server.client() as client:
        yield client


def tokens(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post("/tokenize", json={"inputs": [{"type": "text", "text": TEXT}]} | fields)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_the_model_of_a_request_chooses_and_the_first_is_the_default(
    others: httpx.Client, tokenizer: Tokenizer
) -> None:
    demo = Tokenizer.load()
    expected = {"big": tokenizer, "small": demo, "tiny": tokenizer}
    for name, library in expected.items():
        document = tokens(others, model=name)
        assert document["model"] == name
        assert document["model_revision"] == library.bundle.revision
        assert document["data"][0]["codes"] == library.encode_text(TEXT).codes.tolist()
    assert tokens(others)["model"] == "big"
    raw = others.post("/tokenize?model=small", content=TEXT, headers={"content-type": "text/plain"})
    assert raw.json()["model"] == "small"
    codes = tokens(others, model="small")["data"][0]["codes"]
    back = others.post("/detokenize", json={"codes": codes, "model": "small"}).json()
    assert back["embeddings"]["shape"] == [len(codes), demo.manifest.kept_total]


def test_an_unknown_model_is_told_which_there_are(others: httpx.Client) -> None:
    for path, body in (
        ("/tokenize", {"inputs": [{"type": "text", "text": TEXT}], "model": "none"}),
        ("/detokenize", {"codes": [[1]], "model": "none"}),
        ("/v1/embeddings", {"input": TEXT, "model": "none"}),
    ):
        answer = others.post(path, json=body)
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        for name in ("big", "small", "tiny"):
            assert f"'{name}'" in error["message"]


def test_every_model_is_listed_the_default_first(others: httpx.Client) -> None:
    document = others.get("/models").json()
    ModelsResponse.model_validate(document)
    assert [each["id"] for each in document["data"]] == ["big", "small", "tiny"]
    revisions = [each["model_revision"] for each in document["data"]]
    assert revisions[0] == revisions[2] != revisions[1]
    assert [each["id"] for each in others.get("/v1/models").json()["data"]] == ["big", "small", "tiny"]
    version = others.get("/version").json()
    assert version["model"] == "big"
    assert version["model_revision"] == revisions[0]
    metrics = others.get("/metrics").text
    for name in ("big", "small", "tiny"):
        assert f'tessera_model_info{{model="{name}"' in metrics


@pytest.mark.parametrize(
    ("bundles", "says"),
    [
        ("{0};{0}", "2 bundles are named 'tiny'"),
        ("{0},name=demo;,name=demo", "2 bundles are named 'demo'"),
        ("{0},weight=0", "weight is a number from 0.001 to 1000"),
        ("{0},device=toaster", "device"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(bundle_dir: Path, bundles: str, says: str) -> None:
    command = serve_command("--bundle", bundles.format(bundle_dir), "--port", "0")
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_the_command_takes_the_option_more_than_once(bundle_dir: Path) -> None:
    twice = ["--bundle", f"{bundle_dir},name=a", "--bundle", f"{bundle_dir},name=b"]
    with running_server(None, *twice) as server, server.client() as client:
        assert [each["id"] for each in client.get("/models").json()["data"]] == ["a", "b"]
