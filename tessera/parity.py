"""The parity report of a bundle as a table."""

from __future__ import annotations

from rich.table import Table

from tessera.manifest import Manifest, ModalityParity


def parity_table(manifest: Manifest) -> Table:
    """A row a modality: what was compared, what differs and how sure those codes were, and what it takes to serve."""
    columns = (
        "modality",
        "codes",
        "differ",
        "largest margin",
        "levels",
        "alone",
        "padded",
        "backbone",
        "peak MB",
    )
    title = "ONNX Runtime against torch"
    if manifest.precision == "fp16":
        title = "ONNX Runtime in half precision against torch in full precision"
    table = Table(*columns, title=title)
    for modality, report in manifest.parity.items():
        table.add_row(modality, *_row(report))
    return table


def _row(report: ModalityParity) -> tuple[str, ...]:
    """Of what a bundle of version 1 does not say, a dash."""
    levels = (f"{level} {found.mismatches}/{found.codes}" for level, found in report.optimization.items())
    checks = (
        "-" if found is None else f"{found.mismatches}/{found.codes}"
        for found in (report.alone, report.padded, report.end_to_end)
    )
    peaks = (f"{name.partition('.')[2]} {peak:.0f}" for name, peak in report.peak_memory_mb.items())
    return (
        str(report.segments),
        str(report.mismatches),
        f"{report.largest_mismatch_margin:.2g} (< {report.epsilon:.2g})",
        "\n".join(levels) or "-",
        *checks,
        "-" if report.backbone is None else f"{report.backbone.max_abs:.2g}",
        "\n".join(peaks) or "-",
    )
