"""The parity report of a bundle as a table."""

from __future__ import annotations

from rich.table import Table

from tessera.manifest import BackboneParity, Comparison, Manifest, ModalityParity

_ROWS = (
    "codes",
    "distinct",
    "differ",
    "largest margin",
    "levels",
    "alone",
    "padded",
    "media to codes",
    "backbone",
    "peak MB",
)


def parity_table(manifest: Manifest) -> Table:
    """A column a modality: what was compared, what differs and how sure those codes were, what it takes to serve."""
    title = "ONNX Runtime against torch"
    if manifest.precision == "fp16":
        title = "ONNX Runtime in half precision against torch in full precision"
    table = Table("", *manifest.parity, title=title, show_lines=True)
    columns = map(_column, manifest.parity.values())
    for name, *cells in zip(_ROWS, *columns, strict=True):
        table.add_row(name, *cells)
    return table


def served(report: ModalityParity) -> Comparison:
    """What was compared as the bundle is served; bundles of version 1 have no more than their counts."""
    codes = Comparison(codes=report.segments, mismatches=report.mismatches)
    return report.optimization.get("all", codes)


def distinct_codes(found: Comparison) -> str:
    """How many different codes were compared, of segments, clips and levels apart; a dash where nobody counted."""
    if found.parts:
        return ", ".join(f"{part.distinct} of {name}" for name, part in found.parts.items())
    return str(found.distinct or "-")


def _column(report: ModalityParity) -> tuple[str, ...]:
    """Of what a bundle of version 1 does not say, a dash."""
    levels = (f"{level} {_differ(found)}" for level, found in report.optimization.items())
    peaks = (f"{name.partition('.')[2]} {peak:.0f}" for name, peak in report.peak_memory_mb.items())
    return (
        str(report.segments),
        distinct_codes(served(report)).replace(", ", "\n"),
        str(report.mismatches),
        f"{report.largest_mismatch_margin:.2g} (< {report.epsilon:.2g})",
        "\n".join(levels) or "-",
        *map(_differ, (report.alone, report.padded, report.end_to_end)),
        _backbone(report.backbone),
        "\n".join(peaks) or "-",
    )


def _differ(found: Comparison | None) -> str:
    return "-" if found is None else f"{found.mismatches}/{found.codes}"


def _backbone(found: BackboneParity | None) -> str:
    if found is None:
        return "-"
    levels = (f"{level} {segments}" for level, segments in found.optimization.items())
    return "\n".join([f"{found.max_abs:.2g}", *levels])
