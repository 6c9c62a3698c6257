"""`aiorecord check`: verify a dataset deeply, and repair what is safe to repair."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import TaskProgressColumn, TimeRemainingColumn

from ...check.check_dataset import check_dataset
from ...check.findings import ERROR, NOTE, UNDETERMINED, WARNING, Finding, Report
from ...check.jobs import ProgressCallback
from ...check.repair.repair_dataset import RepairResult, repair_dataset
from ...check.repair.repair_plan import RepairPlan
from ...errors import AiorecordError, StorageError
from ...printable import json_text, plain
from ..flag_parser import FlagParser, at_least_one
from ..output import complain, dataset_folder, say
from ..table_console import progress_bar

EXAMPLES = """examples:
  aiorecord check data/pick-cube              # every row, every frame, every statistic
  aiorecord check data/pick-cube --fast       # without decoding
  aiorecord check data/pick-cube --repair --dry-run   # report what a repair would keep and lose
  aiorecord check data/pick-cube --repair     # keep what is whole, move the rest aside
  aiorecord check data/pick-cube --json | jq '.findings[].code'

exit codes: 0 no errors (there may be warnings), 1 errors, 2 wrong usage, 3 no errors seen, but something
could not be determined (a disk that cannot be read, a reader that got no processor or memory, a dataset that
changed meanwhile). What is undetermined is never repaired: --repair then changes nothing, and ends with 3."""

_SHOWN = 10


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = FlagParser(
        "aiorecord check",
        description="Verify a LeRobotDataset v3.0 of any program: info against metadata against rows "
        "against video frames, timestamps, statistics, leftovers, frozen cameras. Only reads, "
        "unless told to repair.",
        examples=EXAMPLES,
    )
    parser.add_argument("root", type=dataset_folder, help="the dataset's folder")
    parser.add_argument("--fast", action="store_true", help="do not decode videos and images")
    parser.add_argument(
        "--repair", action="store_true", help="repair what is safe; dropped files are moved aside, see above"
    )
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="repair even if episodes are dropped whose rows or frames may be readable",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only report what --repair would keep and lose; change nothing"
    )
    parser.rare("--workers", type=at_least_one, default=None, help="processes, default one per processor")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(argv)
    if arguments.fast and arguments.repair:
        parser.error("--repair must decode, so it cannot be used with --fast")
    if (arguments.accept_loss or arguments.dry_run) and not arguments.repair:
        parser.error("--accept-loss and --dry-run need --repair")
    root = arguments.root
    if not root.is_dir():
        parser.error(f"{root} is not a folder")
    try:
        with _progress() as progress:
            if arguments.repair:

                def tell(plan: RepairPlan) -> None:
                    if not arguments.json:
                        say(_plan_text(plan, root), flush=True)

                result = repair_dataset(
                    root,
                    workers=arguments.workers,
                    progress=progress,
                    accept_loss=arguments.accept_loss,
                    dry_run=arguments.dry_run,
                    on_plan=tell,
                )
                report, text, data = result.after, _repair_text(result), result.as_dict()
                if (result.refused or arguments.dry_run) and not result.undetermined:
                    text = _unchanged_text(result, root)
                    say(json_text(data) if arguments.json else text)
                    return 1 if result.refused else 0
            else:
                report = check_dataset(
                    root, fast=arguments.fast, workers=arguments.workers, progress=progress
                )
                text, data = report_text(report), report.as_dict()
    except AiorecordError as error:
        complain(error)
        return (
            3 if isinstance(error, StorageError) else 1
        )  # the system refused, or another process holds the lock
    except KeyboardInterrupt:
        say("Stopped. A repair that was under way is finished by the next one.", file=sys.stderr)
        return 130
    say(json_text(data) if arguments.json else text)
    if arguments.repair and result.undetermined:
        return 3
    return report.exit_code


def report_text(report: Report) -> str:
    """A report for people: findings by kind, the worst first, and a last line that sums up."""
    lines: list[str] = []
    for severity in (ERROR, UNDETERMINED, WARNING, NOTE):
        codes = dict.fromkeys(f.code for f in report.findings if f.severity == severity)
        for code in codes:
            found = [finding for finding in report.findings if finding.code == code]
            lines.append(f"{severity.upper()} {code}" + (f" ({len(found)})" if len(found) > 1 else ""))
            lines += [f"  {_line(finding)}" for finding in found[:_SHOWN]]
            if len(found) > _SHOWN:
                lines.append(f"  ... and {len(found) - _SHOWN} more (--json lists all)")
            hint = found[0].hint.replace("ROOT", str(report.root))
            lines.append(f"  → {hint}")
    errors, warnings = report.count(ERROR), report.count(WARNING)
    unknown = report.count(UNDETERMINED)
    counts = [f"{errors} errors"] * bool(errors) + [f"{unknown} undetermined"] * bool(unknown)
    verdict = ", ".join(counts) or "ok"
    looked = f"{report.episodes} episodes, {report.frames} rows, {report.video_frames} video frames"
    how = "read, not decoded" if report.fast else "decoded"
    lines.append(f"{report.root}: {verdict}, {warnings} warnings ({looked} {how}, {report.seconds:.1f} s)")
    return "\n".join(lines)


def _plan_text(plan: RepairPlan, root: Path) -> str:
    """The plan of a repair, as text."""
    lines = [f"Plan for {root}:", *(f"  {step}" for step in plan.steps)]
    if plan.episodes is not None:
        lines.append(f"  keep {plan.episodes} episodes, {plan.frames} frames")
    shown = {
        "lose": [f"episode {episode}: {why}" for episode, why in plan.lost.items()],
        "not paired": plan.not_paired,
        "may be readable and would drop out": plan.readable,
    }
    for what, found in shown.items():
        lines += [f"  {what}: {line}" for line in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  {what}: ... and {len(found) - _SHOWN} more (--json lists all)")
    return "\n".join(
        lines if len(lines) > 1 else [*lines, "  nothing is put together again, nothing is lost"]
    )


def _unchanged_text(result: RepairResult, root: Path) -> str:
    lines = [f"Done already: {action}" for action in result.actions]
    if result.refused:
        command = f"aiorecord check {shlex.quote(str(root))} --repair --accept-loss"
        return "\n".join(
            [
                *lines,
                "Nothing was changed: the repair would drop data that may still be readable (it would be "
                "moved aside, not deleted). Restore files from a copy if you can. To repair anyway, run:",
                f"  {command}",
            ]
        )
    return "\n".join([*lines, "Nothing was changed (--dry-run)."])


def _repair_text(result: RepairResult) -> str:
    lines = ["Before:", report_text(result.before), "", "Repair:"]
    lines += [f"  {action}" for action in result.actions]
    if result.undetermined:
        lines.append(f"  refused: {result.undetermined}")
    elif not result.actions:
        lines.append("  nothing to do")
    lines += [f"  episode {episode} could not be kept: {why}" for episode, why in result.lost.items()]
    if result.aside is not None:
        lines.append(f"  what is not part of the dataset any more is in {result.aside}")
    return "\n".join([*lines, "", "After:", report_text(result.after)])


def _line(finding: Finding) -> str:
    parts = [finding.place]
    if finding.episode is not None:
        parts.append(f"episode {finding.episode}")
    if finding.camera is not None:
        parts.append(finding.camera)
    if finding.first_frame is not None and finding.last_frame is not None:
        parts.append(f"frames {finding.first_frame} to {finding.last_frame}")
    elif finding.first_frame is not None:
        parts.append(f"frame {finding.first_frame}")
    return plain(f"{', '.join(parts)}: {finding.message}")


@contextmanager
def _progress() -> Iterator[ProgressCallback | None]:
    """A progress bar on a terminal's stderr, none elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    with progress_bar(TaskProgressColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("starting", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        yield show
