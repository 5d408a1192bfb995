"""What mkdocs makes of the code: the tables of options, so that no option is described twice."""

import re
from dataclasses import fields
from typing import Any, get_type_hints

from ramify.runtime import config
from ramify.runtime.options import flag_of, variable_of

_MARKER = re.compile(r"<!-- options: (\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the options table of a config class in the place of `<!-- options: Class -->`."""
    return _MARKER.sub(lambda found: table(getattr(config, found[1])), markdown)


def table(config_class: type) -> str:
    """One row per field: flag, variable, type, default, help."""
    hints = get_type_hints(config_class)
    rows = ["| option | variable | type | default | |", "|---|---|---|---|---|"]
    for spec in fields(config_class):
        kind = _type_name(hints[spec.name])
        rows.append(
            f"| `{flag_of(spec.name)}` | `{variable_of(spec.name)}` | {kind} | `{spec.default}` "
            f"| {spec.metadata['help']} |"
        )
    return "\n".join(rows)


def _type_name(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) else str(hint)
    if text.startswith("typing.Literal"):
        return ", ".join(f"`{choice}`" for choice in hint.__args__)
    return text.replace(" | None", "").replace("|", "or")
