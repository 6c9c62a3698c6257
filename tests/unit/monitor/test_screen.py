"""The live view in terminals of every size: what is on the screen, cell by cell.

The expected screens are in `screens/`, one file a size; with AIORECORD_NEW_SCREENS=1 they are written anew,
to be looked at.
"""

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console
from screens_shown import STATES, TERMINALS, snapshot

from aiorecord.monitor.live_view import LiveView, render, render_svg
from aiorecord.monitor.screen import key_hints
from aiorecord.session import Phase

SCREENS = Path(__file__).parent / "screens"


def shown(state, width, height, keys=True, **options):
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(render(state, keys, width=width, height=height, **options))
    return console.file.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), TERMINALS)
def test_the_screen_is_as_it_was_looked_at(width, height):
    text = ""
    for name, state in STATES.items():
        lines = shown(state, width, height)
        text += f"# {name}\n" + "".join(f"{line.rstrip()}\n" for line in lines)
    path = SCREENS / f"{width}x{height}.txt"
    if os.environ.get("AIORECORD_NEW_SCREENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(STATES))
def test_nothing_is_wider_or_higher_than_the_terminal_and_the_keys_stay(name):
    state = STATES[name]
    for width in (20, 40, 49, 50, 60, 79, 80, 120, 200):
        for height in (4, 8, 12, 14, 20, 40):
            lines = shown(state, width, height)
            assert len(lines) <= height, (width, height)
            assert max(map(len, lines)) <= width
            last = lines[-1] if width < 50 or height < 14 else lines[-2]
            if width >= 40:
                for key, _, _ in key_hints(state):
                    assert key.split()[-1] in last or key[0] in last, (width, height, last)
            if width >= 40:
                phase = "SAVING" if state.foreground else state.phase.value.upper()
                assert phase in "\n".join(lines)


def test_without_a_keyboard_ctrl_c_is_named():
    assert "Ctrl-C stop" in "\n".join(shown(STATES["recording"], 80, 24, keys=False))
    assert "→" not in "\n".join(shown(STATES["recording"], 80, 24, keys=False))


def test_a_terminal_without_utf_8_gets_ascii():
    for width, height in TERMINALS:
        for state in STATES.values():
            assert "\n".join(shown(state, width, height, ascii_only=True)).isascii()


def test_the_first_look_shows_no_figures_that_are_not_there():
    first = snapshot(rate=None, frames=0, late_ms=0.0, late_ticks=0, seconds_left=10.0, messages=[], saves=[])
    text = "\n".join(shown(first, 80, 24))
    assert "30 fps wanted" in text
    assert "late" not in text
    assert "- fps" not in text


def test_a_reset_shows_nothing_of_the_running_loop():
    text = "\n".join(shown(STATES["reset"], 120, 30))
    for part in ("next  episode 1", "take 2 of 5", "2 s left of 3 s", "last  episode 0", "31.5 ms late"):
        assert part in text
    for part in ("fps of 30", "14.8 ms", "queued"):
        assert part not in text


def test_taking_back_is_offered_only_where_it_can_be():
    assert any(key[0] == "←" for key, _, _ in key_hints(STATES["reset"]))
    over = STATES["reset, committed"]
    assert not any(key[0] == "←" for key, _, _ in key_hints(over))
    for width, height in TERMINALS:
        text = "\n".join(shown(over, width, height))
        assert "back" not in text.replace("put the scene back", "")


def test_a_picture_of_the_view():
    picture = render_svg(STATES["recording"], width=100)
    assert picture.startswith("<svg")
    assert "RECORDING" in picture


class Terminal(io.StringIO):
    """What a terminal shows of what is written to it; reflows as most do when it is resized."""

    encoding = "utf-8"

    def __init__(self, width, height):
        super().__init__()
        self.width, self.height = width, height
        self.rows, self.x, self.y = [""], 0, 0

    def isatty(self):
        return True

    def write(self, text):
        for control, number, kind, char in re.findall(r"(\x1b\[\??([0-9;]*)([A-Za-z]))|([^\x1b])", text):
            if control:
                self._control(number, kind)
            elif char == "\r":
                self.x = 0
            elif char == "\n":
                self.x, self.y = 0, self.y + 1
            else:
                if self.x == self.width:
                    self.x, self.y = 0, self.y + 1
                self._extend()
                row = self.rows[self.y].ljust(self.x)
                self.rows[self.y] = row[: self.x] + char + row[self.x + 1 :]
                self.x += 1
            self._extend()

    def _extend(self):
        self.rows += [""] * (self.y + 1 - len(self.rows))
        gone = len(self.rows) - self.height
        if gone > 0:
            del self.rows[:gone]
            self.y -= gone

    def _control(self, number, kind):
        if kind == "H":
            self.x = self.y = 0
        elif kind == "A":
            self.y = max(0, self.y - int(number or 1))
        elif kind == "B":
            self.y = min(self.height - 1, self.y + int(number or 1))
        elif kind == "K" and number == "2":
            self.rows[self.y] = ""
        else:
            assert kind in "mlh", (number, kind)

    def resize(self, width, height):
        rows = [row[i : i + width] for row in self.rows for i in range(0, max(len(row), 1), width)]
        self.width, self.height, self.rows = width, height, rows[-height:]
        self.y, self.x = len(self.rows) - 1, min(len(self.rows[-1]), width)

    @property
    def screen(self):
        return [row.rstrip() for row in self.rows if row.strip()]


def test_resizing_leaves_no_debris(monkeypatch):
    terminal = Terminal(120, 30)
    console = Console(
        file=terminal, force_terminal=True, width=120, height=30, markup=False, color_system=None
    )
    with LiveView(True, console) as view:
        view.line("episode 0: 300 frames")
        view.draw(STATES["recording"])
        for width, height in ((60, 20), (40, 12), (100, 25), (43, 30), (120, 30)):
            terminal.resize(width, height)
            console.size = (width, height)
            view.draw(STATES["recording"])
            view.draw(STATES["reset"])
            expected = [line.rstrip() for line in shown(STATES["reset"], width, height)]
            assert terminal.screen == (["episode 0: 300 frames", *expected])[-height:]
        view.line("episode 1: 300 frames")
    assert terminal.screen == ["episode 0: 300 frames", "episode 1: 300 frames"]


def test_a_shell_that_had_the_terminal_meanwhile_leaves_no_debris():
    terminal = Terminal(60, 20)
    console = Console(
        file=terminal, force_terminal=True, width=60, height=20, markup=False, color_system=None
    )
    with LiveView(True, console) as view:
        view.draw(STATES["recording"])
        view.terminal(False)
        terminal.write("\r\n[1]+ Stopped\r\n$ bg\r\n")
        before = terminal.screen
        view.draw(STATES["recording"])
        assert terminal.screen == before  # it is the shell's now
        view.line("episode 0: 300 frames")
        assert terminal.screen[-1] == "episode 0: 300 frames"
        terminal.write("$ fg\r\n")
        view.terminal(True)
        view.draw(STATES["reset"])
        expected = [line.rstrip() for line in shown(STATES["reset"], 60, 20)]
        assert terminal.screen == ["episode 0: 300 frames", *expected]


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_fits_the_smallest_terminal(phase):
    state = snapshot(phase=phase, seconds_left=None, phase_s=None, rate=None)
    assert phase.value.upper() in shown(state, 40, 12)[0]
