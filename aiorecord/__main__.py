"""Runs the `aiorecord` command for ``python -m aiorecord``."""

import sys

from .cli import main

sys.exit(main())
