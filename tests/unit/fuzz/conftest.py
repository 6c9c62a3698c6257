"""The dataset that is damaged, built once."""

from __future__ import annotations

import shutil

import pytest
from subject import build


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared") / "set"
    build(root)
    return root


@pytest.fixture
def dataset(prepared, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(prepared, root)
    return root
