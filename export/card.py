"""The model card: `README.md` of a bundle, written from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tessera.manifest import Comparison, Manifest, ModalityParity, Provenance
from tessera.parity import distinct_codes, served
from tessera.scores import percent


def model_card(manifest: Manifest) -> str:
    """Markdown that says what the bundle is, what it knows, how it was made and what it scores."""
    sections = [_head(manifest), _use(manifest), _origin(manifest), _scores(manifest.provenance.scores)]
    return "\n\n".join([*sections, _parity(manifest), _limits(manifest)]) + "\n"


def _head(manifest: Manifest) -> str:
    modalities = ", ".join(manifest.modalities)
    kept = ", ".join(map(str, manifest.toc.keep))
    grid = manifest.time_grid
    facts = {
        "license": manifest.licence.lower(),
        "library_name": "tessera",
        "tags": ["discrete-tokenizer", "cross-modal", *manifest.modalities],
    }
    return f"""---
{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---

# {manifest.name}

A Tessera bundle: {modalities} become codes of {_alphabets(manifest)}.

| | |
|---|---|
| family | {manifest.family} |
| codebook | {" x ".join(map(str, manifest.codebook_sizes))} codes of {manifest.dim} channels, {kept} kept by TOC |
| segments | {grid.hop_sec:g} s of audio or video, a word of text |
| clip codes | {"yes" if manifest.clip_codes else "no"} |
| precision | {manifest.precision} |"""


def _alphabets(manifest: Manifest) -> str:
    if manifest.levels == 1:
        return f"one alphabet of {manifest.codebook_sizes[0]}"
    return f"{manifest.levels} alphabets, one a level"


def _use(manifest: Manifest) -> str:
    codes = "clip_codes" if manifest.clip_codes else "codes"
    examples = {
        "audio": 'tokenizer.encode("dog.wav").codes',
        "video": 'tokenizer.encode("dog.mp4").codes',
        "text": f'tokenizer.encode_text("a dog barks").{codes}',
    }
    lines = "\n".join(examples[modality] for modality in manifest.modalities)
    return f"""## Use

```python
from tessera import Tokenizer

tokenizer = Tokenizer.load("{manifest.name}/")  # the folder this file is in
{lines}
```"""


def _origin(manifest: Manifest) -> str:
    provenance = manifest.provenance
    return f"""## How it was made

{provenance.data}

Step {provenance.step} of the recipe that `manifest.json` holds in full, exported with the code at
`{provenance.commit}`.{_backbones(provenance)}"""


def _backbones(provenance: Provenance) -> str:
    rows = (
        f"- {modality}: `{stated.get('backbone', 'unnamed')}`{_hashes(stated)}"
        for modality, stated in provenance.backbones.items()
    )
    return "\n\n".join(["", "The backbones in front of it are frozen:", "\n".join(rows)]) * bool(
        provenance.backbones
    )


def _hashes(stated: Mapping[str, Any]) -> str:
    files: Mapping[str, str] = stated.get("files", {})
    return "".join(f", {name} (sha256 {digest[:16]}...)" for name, digest in files.items())


def _scores(scores: Mapping[str, Any]) -> str:
    if "directions" not in scores:
        return "## What it scores\n\nNot evaluated."
    directions: Mapping[str, Any] = scores["directions"]
    rows = "\n".join(f"| {name} | {percent(value)} |" for name, value in directions.items())
    within = "\n".join(f"| {name} | {percent(value)} |" for name, value in scores["within"].items())
    usage = "\n".join(
        f"| {modality} | {use['used']} of {use['size']} | {use['perplexity']:.0f} |"
        for modality, use in scores["codebook"].items()
    )
    agreement = "\n".join(f"| {pair} | {100 * share:.1f} % |" for pair, share in scores["agreement"].items())
    return f"""## What it scores

A linear probe is fitted on the codes of one modality of {scores["clips"]["fit"]} held-out clips and tested on the
codes of another modality of {scores["clips"]["test"]} other held-out clips; neither set was trained on. A clip's
vector is the mean embedding of its codes on {scores["kept_channels"]} channels; captions count up to their tenth word.
{_seeds(scores["seeds"])}; chance is {100 * scores["chance"]:.1f} %. This bundle is the model of seed
{scores["seeds"][0]}. The captions come from one set of templates and phrases, so text is the easy side.

| fitted on -> tested on | accuracy |
|---|---|
{rows}
| mean of the directions | {percent(scores["mean"])} |

Fitted and tested on the same modality, for comparison:

| modality | accuracy |
|---|---|
{within}

Codes of the test clips of seed {scores["seeds"][0]}:

| modality | codes in use | perplexity |
|---|---|---|
{usage}

An event has a few codes, and modalities share embeddings more than they share codes: the code that most segments of a
clip have is the same in two modalities for

| pair | of the test clips |
|---|---|
{agreement}"""


def _seeds(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return "One model, so there is no interval"
    return f"Mean and 95 % confidence interval over {len(seeds)} models trained with different seeds"


def _parity(manifest: Manifest) -> str:
    rows = "\n".join(f"| {modality} | {_row(report)} |" for modality, report in manifest.parity.items())
    levels = "\n".join(
        f"- {modality}: {_optimization(report)}" for modality, report in manifest.parity.items()
    )
    rule = (
        "A code may differ only where the two nearest ones are equally far but for the margin in brackets, which is "
        "rounding, and where at most 1 % do; from media to codes, but for what the rounding of features explains"
    )
    if manifest.precision == "fp16":
        rule = (
            "Codes of half precision differ now and then from those of full precision, which torch computed: at most "
            "5 % of them, and none by more than the margin in brackets"
        )
    return f"""## Parity

The graphs were compared with the torch model at the export, in windows of several lengths, alone, in batches and
padded; segments, clips and levels had to agree each for themselves. {rule}.

| modality | codes | distinct | different | largest margin | margins differ | latents differ | media to codes | MB |
|---|---|---|---|---|---|---|---|---|
{rows}

So much of it went through the graphs at each level of graph optimisation, of which `all` is served:

{levels}"""


def _row(report: ModalityParity) -> str:
    found = served(report)
    cells = (
        found.codes,
        distinct_codes(found),
        found.mismatches,
        f"{found.largest_margin:.2g} (< {report.epsilon:.2g})",
        f"{found.max_abs_margin:.2g}",
        f"{found.max_abs_latent:.2g} of {found.largest_latent:.2g}",
        _differ(report.end_to_end),
        _peak(report),
    )
    return " | ".join(map(str, cells))


def _differ(found: Comparison | None) -> str:
    return "not compared" if found is None else f"{found.mismatches} of {found.codes} differ"


def _optimization(report: ModalityParity) -> str:
    codes = ", ".join(f"{level} {found.codes}" for level, found in report.optimization.items())
    if report.backbone is None:
        return f"codes {codes}"
    segments = ", ".join(f"{level} {number}" for level, number in report.backbone.optimization.items())
    return f"codes {codes}; segments through the backbone {segments}"


def _peak(report: ModalityParity) -> str:
    """Of both graphs, which one server loads."""
    return f"{sum(report.peak_memory_mb.values()):.0f}" if len(report.peak_memory_mb) == 2 else "not measured"


def _limits(manifest: Manifest) -> str:
    world = "world" if "world" in manifest.provenance.data else "data"
    return f"""## What it does not know

Only the {world} it was trained on. Codes of anything else are computed all the same and mean little: look at the
margins."""
