"""What people expect around a project is there and says what is so."""

import re
import tomllib

import pytest
import yaml
from command_blocks import ROOT

import aiorecord.lerobot
import aiorecord.robots

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SITE = (ROOT / "mkdocs.yml").read_text()


def test_the_reference_has_every_public_name_once():
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    listed = re.findall(r"^::: aiorecord\.(\S+)$", pages, re.M)
    assert len(listed) == len(set(listed))
    rest = {"Features", "GuardedRobot", "GuardedTeleoperator", "ROBOTS", "TELEOPERATORS", "Values"}
    robots = set(aiorecord.robots.__all__) - rest - set(aiorecord.__all__)
    expected = {*aiorecord.__all__} - {"__version__"} | {f"robots.{name}" for name in robots}
    expected |= {f"lerobot.{name}" for name in aiorecord.lerobot.__all__} | {"options.RecorderOptions"}
    assert set(listed) == expected


def test_the_site_shows_every_page():
    navigation = set(re.findall(r"^ +- (?:\w+: )?([\w/-]+\.md)$", SITE, re.M))
    pages = {
        str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "adr"
    }
    top = {"README.md": "index.md"} | {
        p.name: p.name.lower() for p in ROOT.glob("*.md") if p.name != "README.md"
    }
    assert navigation == pages | set(top.values())
    hook = (ROOT / "mkdocs_pages.py").read_text()
    assert {page: hook.count(f'"{page}": ') for page in top} == dict.fromkeys(top, 1)


def test_pictures_of_the_pages_are_small():
    for picture in (ROOT / "docs").glob("*.svg"):
        assert picture.stat().st_size < 100_000, picture


def test_what_the_files_name_is_there():
    known = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M)
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, "a job asks for what it needs more"
        for name, job in workflow["jobs"].items():
            assert "timeout-minutes" in job, f"{path.name}: {name}"
            for step in job["steps"]:
                for words in re.findall(r"nox -s ([\w ]+)", step.get("run", "")):
                    assert set(words.split()) <= set(known), step
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["id"] for hook in hooks["hooks"]] == ["ruff-check", "ruff-format", "mypy", "lint-imports"]
    assert all(hook["entry"].startswith("uv run --locked --group lint ") for hook in hooks["hooks"])


def test_the_changelog_begins_with_what_comes_next():
    headings = re.findall(r"^## \[(.*?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == ("Unreleased", "")
    for version, date in headings[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", date)
    assert all(
        url.startswith(PROJECT["urls"]["Repository"])
        for name, url in PROJECT["urls"].items()
        if name != "Documentation"
    )


def test_a_drawing_of_many_points_is_shrunk_and_keeps_them(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    from aiorecord.bench.svg import shrink

    figure, panel = pyplot.subplots()
    panel.plot(range(400), [n % 7 for n in range(400)], ".", markersize=2)
    panel.plot(range(5), range(5), ".")
    path = tmp_path / "points.svg"
    figure.savefig(path)
    pyplot.close(figure)
    before = path.read_text()
    points = [tuple(map(float, p)) for p in re.findall(r'x="(\S+)" y="(\S+)" style="fill: #1f77b4', before)]
    shrink(path)
    after = path.read_text()
    assert len(after) < len(before) / 2
    assert after.count('style="fill: #ff7f0e') == 5, "few points stay as they are"
    (drawn,) = re.findall(r'<path d="(m[^"]*h0)" style="fill: none; stroke: #1f77b4; stroke-width: 2;', after)
    x = y = 0.0
    steps = re.findall(r"m(-?[\d.]+) ?(-?[\d.]+)h0", drawn)
    assert len(steps) == len(points) == 400
    for (step_x, step_y), (true_x, true_y) in zip(steps, points, strict=True):
        x, y = x + float(step_x), y + float(step_y)
        assert (x, y) == pytest.approx((true_x, true_y), abs=0.0051)
