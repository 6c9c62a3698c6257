"""Wrong usage of lerobot's own scripts takes two lines and exit code 2, as of aiorecord's commands."""

import pytest

from aiorecord.cli import main

pytestmark = pytest.mark.lerobot
RECORD = [
    *("lerobot-record", "--robot.type=so101_follower", "--robot.port=/dev/x", "--teleop.type=so101_leader"),
    *("--teleop.port=/dev/y", "--dataset.repo_id=me/x", "--dataset.single_task=x"),
]
ROLLOUT = ["lerobot-rollout", "--robot.type=so101_follower", "--robot.port=/dev/x", "--policy.type=act"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([*RECORD, "--dataset.num_episode=3"], "Did you mean --dataset.num_episodes?"),
        ([*RECORD, "--dataset.fps=fast"], "--dataset.fps takes a whole number, not 'fast'."),
        ([*RECORD, "--robot.type=so102_follower"], "not 'so102_follower'. Did you mean so101_follower?"),
        ([*RECORD, "--dataset.fps=[1"], "'[1' cannot be read as YAML"),
        ([*RECORD, "--dataset.async_saving=maybe"], "takes true or false, not 'maybe'"),
        ([*RECORD, "--config_path=nope.yaml"], "nope.yaml cannot be read: No such file"),
        ([*RECORD, "stray"], "Nothing takes 'stray'"),
        (["lerobot-record"], "--robot, --dataset must be given."),
        ([*ROLLOUT, "--policy.type=actt"], "Did you mean act?"),
        ([*ROLLOUT, "--config_path=nope.yaml"], "nope.yaml cannot be read"),
        ([*ROLLOUT, "--strategy.type=sentry"], "requires --dataset.repo_id"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_flags(argv, said, capsys):
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code
    err = capsys.readouterr().err
    assert code == 2
    assert said in err
    assert err.startswith(f"aiorecord {argv[0]}: ")
    assert err.endswith(f"Try `aiorecord {argv[0]} --help`.\n")
    assert err.count("\n") == 2, "no list of every flag, no traceback"


def test_an_error_after_the_flags_is_lerobots(tmp_path, monkeypatch):
    def broken(config):
        raise ValueError("a calibration that cannot be")

    import lerobot.scripts.lerobot_record as script

    monkeypatch.setattr(script, "init_logging", lambda *given, **options: broken(None))
    with pytest.raises(ValueError, match="calibration"):
        main([*RECORD, f"--dataset.root={tmp_path / 'set'}"])
