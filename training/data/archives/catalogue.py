"""Every released dataset that can be converted, by the name of its store."""

from __future__ import annotations

from training.data.archives import ave, avsbench, avvp, captioned, ucf_vgg, vggsound
from training.data.archives.dataset import Format

FORMATS: dict[str, Format] = {
    format.name: format
    for module in (vggsound, ave, avvp, ucf_vgg, captioned, avsbench)
    for format in module.FORMATS
}
