"""Staged episodes and capture gates come from the tests of their rooms."""

import sys
from pathlib import Path

for room in ("dataset", "capture"):
    sys.path.append(str(Path(__file__).parent.parent / room))
