"""Makes LeRobot's robots, teleoperators and cameras available on aiorecord's command lines.

A command line that names a device type other than aiorecord's own is parsed with lerobot's registries, so
that lerobot's types and flags, plugins included, work unchanged. Only then lerobot is imported, which takes
seconds and loads torch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import draccus
import yaml

from ...errors import ConfigError
from ...flags.flag_names import CONFIG_FLAG, nearest
from ...flags.yaml_values import read_file, read_yaml
from ...system.installation import install_hint

PLUGIN_SUFFIX = "discover_packages_path"
"""lerobot's flag for a package that registers devices: ``--robot.discover_packages_path=my_robots``."""

KINDS = {"robot": "robot", "teleop": "teleoperator"}
"""Names of the fields of a flags class in messages."""

type Registries = Mapping[str, Any]
"""draccus choice registries by their field: ``robot``, ``teleop``."""


@dataclass(frozen=True)
class LeRobotChoices:
    """The device types that lerobot knows here.

    Attributes:
        types: config classes by field (``robot``, ``teleop``, ``camera``) and type name.
        failed: lerobot's own device packages that could not be imported, and why.
    """

    types: dict[str, dict[str, type[Any]]]
    failed: dict[str, str]


def is_installed() -> bool:
    """Whether lerobot can be imported. Does not import it."""
    spec = importlib.util.find_spec("lerobot")
    # A folder of that name without a package has no origin.
    return spec is not None and spec.origin is not None


@functools.cache
def load_choices() -> LeRobotChoices:
    """Import every device package of lerobot and every third-party plugin, and read what they registered.

    Raises:
        ConfigError: lerobot is not installed, or it cannot be imported.
    """
    if not is_installed():
        raise ConfigError(f"lerobot is not installed. Install it: {install_hint('lerobot')}")
    failed: dict[str, str] = {}
    try:
        from lerobot.cameras import CameraConfig
        from lerobot.robots import RobotConfig
        from lerobot.teleoperators import TeleoperatorConfig
        from lerobot.utils.import_utils import register_third_party_plugins
    except ImportError as error:
        raise ConfigError(f"lerobot is installed but cannot be imported: {error}") from error
    for package in ("cameras", "robots", "teleoperators"):
        failed |= _import_packages(f"lerobot.{package}")
    register_third_party_plugins()
    registries = {"robot": RobotConfig, "teleop": TeleoperatorConfig, "camera": CameraConfig}
    types = {field: dict(registry.get_known_choices()) for field, registry in registries.items()}
    return LeRobotChoices(types, failed)


def prepare(argv: Sequence[str], registries: Registries) -> list[str]:
    """Make lerobot's device types known to the parser, as far as a command line asks for them.

    Types are searched in the flags (``--robot.type=…``) and in the files that the flags name. Nothing is
    imported if all types are known already.

    Args:
        argv: the arguments.
        registries: the registries that the flags are parsed with; requested types are added to them.

    Returns:
        The arguments without those that only name plugins to import.

    Raises:
        ConfigError: lerobot is needed and not installed, there is no such type, or a plugin cannot be loaded.
    """
    plugins, rest = _take_plugin_flags(argv)
    wanted = {
        field: name
        for field, name in asked_types(rest, tuple(registries)).items()
        if name not in registries[field].get_known_choices()
    }
    if not wanted and not plugins:
        return rest
    if not is_installed():
        raise _not_installed(wanted, plugins, registries)
    if plugins:
        _load_plugins(plugins)
        load_choices.cache_clear()  # the imports registered new types
    choices = load_choices()
    for field, name in wanted.items():
        if name not in choices.types[field]:
            raise _unknown(field, name, registries[field], choices)
        registries[field].register_subclass(name, choices.types[field][name])
    return rest


def asked_types(argv: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """The type that a command line selects for each field, if it does.

    A flag overrides a file, as in draccus. The parser reports files that cannot be read.

    Args:
        argv: the arguments.
        fields: such as ``("robot", "teleop")``.
    """
    path = _last_value(CONFIG_FLAG, argv)
    file = _load_file(path) if path else {}
    found: dict[str, str] = {}
    for field in fields:
        whole = _last_value(f"--{field}", argv)
        sources = [_last_value(f"--{field}.{draccus.CHOICE_TYPE_KEY}", argv)]
        for group in (_parse_group(whole) if whole else None, file.get(field)):
            sources.append(group.get(draccus.CHOICE_TYPE_KEY) if isinstance(group, Mapping) else None)
        if name := next((str(source) for source in sources if source), None):
            found[field] = name
    return found


def looked_for(fields: Sequence[str]) -> list[str]:
    """The flags that this module reads before the parser reads the command line."""
    flags = [CONFIG_FLAG, f"--{PLUGIN_SUFFIX}"]
    for field in fields:
        flags += [f"--{field}", f"--{field}.{draccus.CHOICE_TYPE_KEY}", f"--{field}.{PLUGIN_SUFFIX}"]
    return flags


def help_hint(prog: str, help_all: str) -> list[str]:
    """The text about lerobot in a short ``--help``. Imports nothing.

    Args:
        prog: the program's name.
        help_all: its flag for the whole help.
    """
    if not is_installed():
        return ["With lerobot, all its robots, teleoperators and cameras:", f"  {install_hint('lerobot')}"]
    return [
        f"lerobot is installed: `{prog} {help_all}` lists its devices too,",
        "and --robot.type=so101_follower --help lists the flags of one.",
    ]


def help_lines(fields: Sequence[str]) -> list[str]:
    """The text about lerobot in ``--help``: its types, or how to install it. May import lerobot.

    Args:
        fields: those of the command, such as ``("robot", "teleop")``.
    """
    if not is_installed():
        return [f"With lerobot, all its robots, teleoperators and cameras: {install_hint('lerobot')}"]
    try:
        choices = load_choices()
    except ConfigError as error:
        return [str(error)]
    lines = ["lerobot's types (add one to --help to see its flags: --robot.type=so101_follower --help):"]
    flags = {field: f"--{field}.type" for field in fields} | {"camera": "cameras, {type: …}"}
    for field, flag in flags.items():
        lines.append(f"  {flag}: {', '.join(sorted(choices.types[field]))}")
    lines += [f"  {package} is left out: {why}" for package, why in choices.failed.items()]
    return lines


def _import_packages(parent: str) -> dict[str, str]:
    """Import the packages in a package, since each registers its types; returns those that failed."""
    failed: dict[str, str] = {}
    for module in pkgutil.iter_modules(importlib.import_module(parent).__path__, f"{parent}."):
        if not module.ispkg:
            continue
        try:
            importlib.import_module(module.name)
        except Exception as error:  # noqa: BLE001 - a broken SDK must not take the other devices along
            failed[module.name] = str(error)
    return failed


def _take_plugin_flags(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split the flags that name plugin packages from the rest."""
    plugins: dict[str, str] = {}
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name.endswith(PLUGIN_SUFFIX):
            plugins[name] = value if equals else next(arguments, "")
        else:
            rest.append(argument)
    return plugins, rest


def _load_plugins(plugins: Mapping[str, str]) -> None:
    from lerobot.configs.parser import PluginLoadError, load_plugin

    for flag, package in plugins.items():
        try:
            load_plugin(package)
        except (PluginLoadError, ValueError) as error:
            raise ConfigError(f"{flag}: {error}", option=flag.removeprefix("--")) from error


def values_of(flag: str, argv: Sequence[str]) -> list[str]:
    """The values given for a flag, written ``--flag=value`` or ``--flag value``."""
    found = []
    for argument, after in itertools.zip_longest(argv, argv[1:]):
        if argument.startswith(f"{flag}="):
            found.append(argument.partition("=")[2])
        elif argument == flag and after is not None:
            found.append(after)
    return found


def _last_value(flag: str, argv: Sequence[str]) -> str | None:
    return next(reversed(values_of(flag, argv)), None)


def _parse_group(text: str) -> Any:
    """The value of ``--robot=…``: a dict in YAML, or ``include FILE``."""
    if text.startswith("include "):
        return _load_file(text.removeprefix("include ").strip())
    try:
        return read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _load_file(path: str) -> Any:
    try:
        loaded = read_file(path)
    except (OSError, ValueError, draccus.utils.DraccusException):
        return {}
    return loaded if isinstance(loaded, Mapping) else {}


def _not_installed(
    wanted: Mapping[str, str], plugins: Mapping[str, str], registries: Registries
) -> ConfigError:
    if not wanted:
        flag = next(iter(plugins))
        return ConfigError(
            f"{flag} needs lerobot, which is not installed: {install_hint('lerobot')}", option=flag[2:]
        )
    field, name = next(iter(wanted.items()))
    own = registries[field].get_known_choices()
    return ConfigError(
        f"{name!r} is not a {KINDS[field]} of aiorecord ({', '.join(own)}).{nearest(name, own)} "
        f"The others come with lerobot, which is not installed: {install_hint('lerobot')}",
        option=f"{field}.type",
    )


def _unknown(field: str, name: str, registry: Any, choices: LeRobotChoices) -> ConfigError:
    known = sorted({*registry.get_known_choices(), *choices.types[field]})
    error = ConfigError(
        f"There is no {KINDS[field]} {name!r}. Choose from: {', '.join(known)}.{nearest(name, known)}",
        option=f"{field}.type",
    )
    for package, why in choices.failed.items():
        error.add_note(f"{package} could not be imported: {why}")
    return error
