"""Pages of the site that stand in the top folder: README, CHANGELOG and so on. Used by mkdocs.yml.

They are read where they are, so that there is one of each; links between them and into docs/ are made to
lead there.
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
    """Add the decisions to the navigation, all that there are, in the order of their numbers."""
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
    """Code in docstrings follows a double colon, which is no Markdown: one of the two is left, or none."""
    if not page.url.startswith("api/"):
        return html
    return html.replace("<p>::</p>\n", "").replace("::</p>", ":</p>")


def _site_path(link: re.Match[str]) -> str:
    path = link["path"]
    return PAGES.get(path, path.removeprefix("docs/"))
