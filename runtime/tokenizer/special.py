"""What the small files of a model directory say: special tokens, end-of-sequence, chat template."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramify.lang.errors import LoadError

_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True, slots=True)
class SpecialFiles:
    """tokenizer_config.json, generation_config.json and the template's file, read together."""

    special_tokens: dict[str, str]  # bos_token, eos_token, ... as the template may use them
    added_tokens: dict[str, int]  # special tokens by content, where the config lists them
    adds_bos: bool | None  # None: as the tokenizer itself does
    eos_token_ids: tuple[int, ...]  # of generation_config.json
    chat_template: str | None


def read_special_files(directory: Path) -> SpecialFiles:
    """Read what there is; each file may be absent."""
    settings = _read_json(directory / "tokenizer_config.json")
    tokens = _read_json(directory / "special_tokens_map.json") | settings
    contents = {name: _content(tokens.get(name)) for name in _NAMES}
    generation = _read_json(directory / "generation_config.json")
    eos = generation.get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if not all(type(token_id) is int and token_id >= 0 for token_id in ids):
        raise LoadError(
            f"{directory / 'generation_config.json'}: eos_token_id={eos!r}: must be a token id or "
            "a list of token ids"
        )
    adds_bos = settings.get("add_bos_token")
    return SpecialFiles(
        special_tokens={name: text for name, text in contents.items() if text is not None},
        added_tokens=_added_tokens(settings),
        adds_bos=adds_bos if isinstance(adds_bos, bool) else None,
        eos_token_ids=tuple(ids),
        chat_template=_chat_template(directory, settings),
    )


def _chat_template(directory: Path, settings: dict[str, Any]) -> str | None:
    """chat_template.jinja, or the field of tokenizer_config.json; the file wins."""
    path = directory / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _added_tokens(settings: dict[str, Any]) -> dict[str, int]:
    entries = settings.get("added_tokens_decoder") or {}
    return {entry["content"]: int(i) for i, entry in entries.items() if entry.get("special")}


def _content(token: Any) -> str | None:
    """A token is written as text, or as an object with its content."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise LoadError(f"{path} holds {type(value).__name__}: must be a JSON object")
    return value
