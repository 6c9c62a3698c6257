"""What every test has."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `from helpers import ...`, wherever pytest is started
