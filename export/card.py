"""The model card: `README.md` of a bundle, written from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tessera.bundle import Manifest
from tessera.scores import percent


def model_card(manifest: Manifest) -> str:
    """Markdown that says what the bundle is, what it knows, how it was made and what it scores."""
    sections = [_head(manifest), _use(manifest), _origin(manifest), _scores(manifest.provenance.scores)]
    return "\n\n".join([*sections, _parity(manifest), _limits()]) + "\n"


def _head(manifest: Manifest) -> str:
    modalities = ", ".join(manifest.modalities)
    kept = ", ".join(str(len(channels)) for channels in manifest.kept_channels)
    return f"""---
license: {manifest.licence.lower()}
library_name: tessera
tags: [discrete-tokenizer, cross-modal, {modalities}]
---

# {manifest.name}

A Tessera bundle: {modalities} become codes of one alphabet of {manifest.codebook_sizes[0]}.

| | |
|---|---|
| family | {manifest.family} |
| codebook | {" x ".join(map(str, manifest.codebook_sizes))} codes of {manifest.dim} channels, {kept} kept by TOC |
| segments | {manifest.time_grid.hop_sec:g} s of audio or video, a word of text |
| clip codes | {"yes" if manifest.clip_codes else "no"} |"""


def _use(manifest: Manifest) -> str:
    return f"""## Use

```python
from tessera import Tokenizer

tokenizer = Tokenizer.load("{manifest.name}/")  # the folder this file is in
tokenizer.encode("dog.wav").codes
tokenizer.encode_text("a dog barks").clip_codes
```"""


def _origin(manifest: Manifest) -> str:
    provenance = manifest.provenance
    return f"""## How it was made

{provenance.data}

Trained for {provenance.step} steps with the recipe that `manifest.json` holds in full, with the code at
`{provenance.commit}`."""


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
    rows = "\n".join(
        f"| {modality} | {report.segments} | {report.mismatches} | {report.largest_mismatch_margin:.2g} |"
        for modality, report in manifest.parity.items()
    )
    return f"""## Parity

The graphs were compared with the torch model at the export; a code may differ only where its margin is below
{next(iter(manifest.parity.values())).epsilon:g}.

| modality | codes compared | different | largest margin of those |
|---|---|---|---|
{rows}"""


def _limits() -> str:
    return """## What it does not know

Only the world it was trained on. Codes of anything else are computed all the same and mean little: look at the
margins."""
