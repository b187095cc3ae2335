"""The fine half of FCID alone, for sound and picture: a code for every second.

docs/models.md 1.4. It is DCID of two modalities, but CLUB sees the unquantised vectors as released, too.
"""

from __future__ import annotations

from typing import ClassVar

from training.models.dcid import DCID


class FCIDFine(DCID):
    """Sound and picture, disentangled second by second."""

    club_sees_codes: ClassVar[bool] = False
