"""A package's public names: each is found, listed, and kept; others are an AttributeError."""

import importlib

import pytest

from aiorecord.system.lazy_names import lazy_names


@pytest.mark.parametrize("package", ["aiorecord", "aiorecord.robots", "aiorecord.lerobot"])
def test_what_a_package_lists_is_what_it_has(package):
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


def test_a_name_is_imported_once_and_may_differ_from_its_original():
    import aiorecord
    from aiorecord.recording.recorder import open_recorder

    assert aiorecord.open is open_recorder
    assert vars(aiorecord)["open"] is open_recorder


def test_a_module_that_is_not_installed_may_be_explained():
    get, _ = lazy_names(
        "aiorecord", {"no_such": "a b"}, explain=lambda name, error: "Install it." if name == "a" else None
    )
    with pytest.raises(ModuleNotFoundError, match=r"Install it\.") as caught:
        get("a")
    assert caught.value.name == "aiorecord.no_such"
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        get("b")
