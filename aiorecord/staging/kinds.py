"""The kinds of capture, by the name that manifests give them."""

from __future__ import annotations

from .kind import CaptureKind
from .live import LIVE
from .lossless import LOSSLESS, PACKETS, RGB
from .raw import RAW

KINDS: dict[str, CaptureKind] = {kind.name: kind for kind in (LOSSLESS, RGB, PACKETS, RAW, LIVE)}
