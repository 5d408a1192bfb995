"""Flags and environment variables made from the config dataclasses.

A value comes from the command line, else from `RAMIFY_<NAME>`, else from the dataclass: in that
order. The flag of `max_running_requests` is `--max-running-requests`, its variable
`RAMIFY_MAX_RUNNING_REQUESTS`.
"""

import argparse
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from ramify.lang.errors import ConfigError
from ramify.runtime.config import choices_of

Config = TypeVar("Config")
Origin = Literal["command line", "environment", "default"]

ALIASES = {"model": ("--model-path",)}  # spellings that other servers' users have in their scripts
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class Resolved(NamedTuple, Generic[Config]):
    """A config and where each of its values came from."""

    config: Config
    origins: dict[str, Origin]


def add_flags(parser: argparse.ArgumentParser, config_class: type) -> None:
    """Give `parser` one flag per field of `config_class`; absent flags parse to None."""
    group = parser.add_argument_group(f"{config_class.__name__} options")
    for spec in fields(config_class):
        names = (flag_of(spec.name), *ALIASES.get(spec.name, ()))
        default = "none" if spec.default is None else spec.default
        text = f"{spec.metadata['help']} (default: {default})".replace("%", "%%")
        shared: dict[str, Any] = {"dest": spec.name, "default": None, "help": text}
        kind = _type_of(config_class, spec.name)
        if kind is bool:
            group.add_argument(*names, action=argparse.BooleanOptionalAction, **shared)
        else:
            choices = choices_of(config_class, spec.name) or None
            metavar = None if choices else kind.__name__.upper()
            group.add_argument(*names, type=kind, choices=choices, metavar=metavar, **shared)


def resolve(
    config_class: type[Config], given: Mapping[str, Any], environ: Mapping[str, str]
) -> Resolved[Config]:
    """The config that `given` (parsed flags by field name) and `environ` add up to."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for spec in fields(config_class):  # type: ignore[arg-type]
        variable = variable_of(spec.name)
        if given.get(spec.name) is not None:
            values[spec.name], origins[spec.name] = given[spec.name], "command line"
        elif variable in environ:
            kind = _type_of(config_class, spec.name)
            values[spec.name] = _parse(variable, environ[variable], kind)
            origins[spec.name] = "environment"
        else:
            origins[spec.name] = "default"
    return Resolved(config_class(**values), origins)


def describe(*resolved: Resolved[Any]) -> str:
    """One line per option, `name = value  (origin)`, for `--print-config`."""
    lines = []
    for config, origins in resolved:
        shown = public_values(config)
        width = max(len(name) for name in shown)
        lines += [f"{name:{width}} = {shown[name]!r}  ({origins[name]})" for name in shown]
    return "\n".join(lines)


def public_values(config: Any) -> dict[str, Any]:
    """Every option's value by name, with secrets masked."""
    return {
        spec.name: "***" if spec.metadata["secret"] and value is not None else value
        for spec in fields(config)
        for value in (getattr(config, spec.name),)
    }


def flag_of(name: str) -> str:
    """The command-line spelling of a field's name."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a field's name."""
    return "RAMIFY_" + name.upper()


def _type_of(config_class: type, name: str) -> type:
    """The type that parses a field's text: bool, int, float or str."""
    hint = get_type_hints(config_class)[name]
    if get_origin(hint) is types.UnionType:  # X | None
        hint = next(arm for arm in get_args(hint) if arm is not types.NoneType)
    if get_origin(hint) is Literal:
        return str
    assert hint in (bool, int, float, str), f"{name}: no flag can be made of {hint}"
    return hint  # type: ignore[no-any-return]


def _parse(variable: str, text: str, kind: type) -> Any:
    """The value of an environment variable, or a `ConfigError` that names it."""
    if kind is bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        raise ConfigError(f"{variable}={text!r}: must be one of {', '.join((*_TRUE, *_FALSE))}")
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{variable}={text!r}: must be {_ARTICLE[kind]}") from None


_ARTICLE = {int: "an integer", float: "a number", str: "text"}
