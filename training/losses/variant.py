"""Which formulas: `intended` are the papers', `paper` what the released code computes (docs/models.md 6)."""

from typing import Literal

Variant = Literal["intended", "paper"]
