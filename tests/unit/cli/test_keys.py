"""The terminal's bytes become commands, in one piece or in several."""

import pytest

from aiorecord.cli.keys import KeyDecoder
from aiorecord.session import Command

END, AGAIN, STOP = Command.END_EARLY, Command.RERECORD, Command.STOP


@pytest.mark.parametrize(
    ("data", "commands"),
    [
        (b"\x1b[C", [END]),
        (b"\x1bOC", [END]),
        (b"n", [END]),
        (b"N", [END]),
        (b"\x1b[D", [AGAIN]),
        (b"r", [AGAIN]),
        (b"q", [STOP]),
        (b"\x1b[A", []),
        (b"\x1b[1;5C", []),
        (b"\x1b[3~", []),
        (b"xyz \n\xff\x00", []),
        (b"n\x1b[Dq", [END, AGAIN, STOP]),
        (b"\x1b\x1b[C", [STOP, END]),
    ],
)
def test_whole_sequences(data, commands):
    decoder = KeyDecoder()
    assert decoder.feed(data) == commands
    assert not decoder.waiting


@pytest.mark.parametrize("cut", [1, 2])
def test_an_arrow_key_in_pieces(cut):
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b[C"[:cut]) == []
    assert decoder.waiting
    assert decoder.feed(b"\x1b[C"[cut:]) == [END]
    assert not decoder.waiting


def test_a_lone_escape_is_a_key_when_nothing_follows():
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.flush() == [STOP]
    assert decoder.flush() == []
