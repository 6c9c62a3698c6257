"""A recorder's options: one definition, of which the keywords and the flags are."""

from dataclasses import MISSING, fields
from typing import get_args, get_type_hints

from aiorecord.cli.record_config import DatasetFlags, RecordFlags
from aiorecord.options import RecorderKeywords, RecorderOptions

OTHER_NAMES = {"async_save_queue_size": "save_queue_size", "async_save_timeout": "save_timeout"}
"""Flags that have lerobot's or the proposal's names."""


def test_the_keywords_that_an_editor_completes_are_the_options():
    options, keywords = get_type_hints(RecorderOptions), get_type_hints(RecorderKeywords)
    assert list(keywords) == list(options)
    for name, kind in options.items():
        assert keywords[name] in (kind, kind | None), name
        assert type(None) in get_args(keywords[name]), name  # None stands for the default


def test_a_flag_of_an_option_has_its_default():
    options = {field.name: field.default for field in fields(RecorderOptions)}
    shared = []
    for flag in (*fields(RecordFlags), *fields(DatasetFlags)):
        name = OTHER_NAMES.get(flag.name, flag.name)
        if name in options and options[name] is not MISSING:
            assert flag.default == options[name], flag.name
            shared.append(name)
    assert len(shared) > 12
