"""Adds the pages of the top folder (README, CHANGELOG and so on) to the site. Used by mkdocs.yml.

They are read in place, so that there is only one copy; links between them and into docs/ are adapted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<=\]\()(?!https?:)(?P<path>[^)#]*)(?=[)#])")


def on_config(config: Any) -> Any:
    """Add all decision records to the navigation, in the order of their numbers."""
    pages = [f"adr/{path.name}" for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    config.nav.append({"Decisions": pages})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the top folder."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_LINK.sub(_site_path, text)))
    return files


def on_page_content(html: str, page: Any, **given: Any) -> str:
    """Reduce the double colon before code in docstrings, which is not Markdown, to one colon or none."""
    if not page.url.startswith("api/"):
        return html
    return html.replace("<p>::</p>\n", "").replace("::</p>", ":</p>")


def _site_path(link: re.Match[str]) -> str:
    path = link["path"]
    return PAGES.get(path, path.removeprefix("docs/"))
