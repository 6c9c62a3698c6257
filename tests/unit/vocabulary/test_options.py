"""A recorder's options: one definition, of which the keywords and the flags are."""

from dataclasses import MISSING, fields
from typing import get_args, get_type_hints

import pytest

from aiorecord.cli.record_config import (
    OTHER_NAMES,
    DatasetFlags,
    RecordFlags,
    SimRobotChoice,
    recorder_options,
)
from aiorecord.errors import ConfigError
from aiorecord.options import RecorderKeywords, RecorderOptions, parse_options


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


def test_every_flag_of_an_option_sets_it():
    flags = RecordFlags(SimRobotChoice(), DatasetFlags(root="here", async_save_queue_size=7), buffer_mb=5)
    options = recorder_options(flags, "so101")
    assert options["save_queue_size"] == 7
    assert options["buffer_mb"] == 5
    assert options["root"] == "here"
    assert options["robot_type"] == "so101"
    own = {"encode_executor", "nonfinite", "limits", "pack"}
    sizes = {"chunks_size", "data_files_size_in_mb", "video_files_size_in_mb"}
    assert options.keys() == RecorderOptions.__dataclass_fields__.keys() - own - sizes


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("encode", "encode is 'auto', 'live' or 'deferred', not 'maybe'."),
        ("nonfinite", "nonfinite is 'accept' or 'refuse', not 'maybe'."),
    ],
)
def test_a_word_that_is_no_choice(option, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_options({option: "maybe"})
    assert caught.value.option == option


def test_none_is_the_default_and_no_limit_of_the_timeout():
    options = parse_options({"buffer_mb": None, "save_timeout": None, "encoder_threads": None})
    assert (options.buffer_mb, options.save_timeout, options.encoder_threads) == (256, None, None)
