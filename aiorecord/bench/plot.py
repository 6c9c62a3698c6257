"""Draws the lateness of each tick over time with matplotlib (the extra ``bench``)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigError
from ..system.installation import install_hint
from .cell import Measurement
from .svg import shrink

FORMATS = (".svg", ".png", ".pdf")
FLOOR_MS = 0.01
"""The lowest value of the logarithmic axis; ticks with a smaller lateness are drawn there."""


def check_plot(path: Path) -> None:
    """Check that a plot can be made, before anything is measured.

    Raises:
        ConfigError: matplotlib is missing, or does not support the file's suffix.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"The plot's name must end in {', '.join(FORMATS)}: {path.name}.", option="plot")
    if find_spec("matplotlib") is None:
        raise ConfigError(
            f"Drawing needs matplotlib: `{install_hint('bench')}`, or leave out --plot.",
            option="plot",
        )


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw each tick's lateness over time: a panel per cell, a colour per system.

    Args:
        measurements: those with ticks are drawn; of several rounds the last.
        path: .svg, .png or .pdf.

    Raises:
        ConfigError: there is nothing to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = list(dict.fromkeys(m.cell for m in measurements if m.late_ms))
    if not cells:
        raise ConfigError("There is nothing to draw: no recording has ticks.", option="plot")
    figure, panels = pyplot.subplots(
        len(cells), 1, figsize=(9, 0.8 + 2.4 * len(cells)), squeeze=False, layout="constrained"
    )
    for cell, panel in zip(cells, panels[:, 0], strict=True):
        latest = {m.system: m for m in measurements if m.cell == cell and m.late_ms}
        for system, measured in sorted(latest.items(), reverse=True):
            late = [max(value, FLOOR_MS) for value in measured.late_ms]
            panel.plot(
                measured.tick_s, late, ".", markersize=3, label=f"{system}, p99 {measured.late(99):.1f} ms"
            )
        panel.axhline(1000 / cell.fps, color="grey", linewidth=0.8, linestyle="--", label="one period")
        panel.set_yscale("log")
        panel.set_title(cell.label(), fontsize=10)
        panel.set_ylabel("late, ms")
        panel.legend(loc="upper right", fontsize=8)
    panels[-1, 0].set_xlabel("seconds since the first frame; gaps are the waits between episodes")
    figure.savefig(path)
    shrink(path)
    pyplot.close(figure)
