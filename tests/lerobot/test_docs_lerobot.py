"""The commands of the pages that need lerobot's devices: their flags are read by lerobot's own classes."""

import pytest
from command_blocks import PAGES, lines

from aiorecord.cli.devices import parse_device_flags
from aiorecord.cli.record_config import RecordFlags, check_flags

pytestmark = pytest.mark.lerobot


def test_the_commands_for_hardware():
    found = [line for page in PAGES for line in lines(page) if any("type=so101" in w for w in line.words)]
    assert found
    for line in found:
        assert line.command == "record"
        flags = parse_device_flags(RecordFlags, line.words[2:], prog="aiorecord record", examples="")
        assert not isinstance(flags, int), line.words
        check_flags(flags, terminal=False)
