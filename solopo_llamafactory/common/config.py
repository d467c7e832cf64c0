"""A YAML file and `key=value` overrides as a checked dataclass; its help text."""

import dataclasses
import difflib
import os
import textwrap
import types
from dataclasses import Field
from typing import Any, Literal, TypeVar, get_args, get_origin

from .errors import SolopoError


T = TypeVar("T")
KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text, in quotes where it looks like a number",
    dict: "a mapping, such as {key: value}",
    list[int]: "a list of whole numbers, such as [4000, 8000, 16000]",
    list[float]: "a list of numbers, such as [0, 0.5, 1]",
    list[dict]: "a list of mappings, such as [{name: base}]",
    list[str]: 'a list of texts, such as ["[THINK]", "[/THINK]"]',
}
PLAIN = (int, float, bool, str, dict)


def parse(cls: type[T], argv: list[str], command: str = "solopo build") -> T:
    """Reads `[CONFIG.yaml] [key=value ...]`; an override beats the file.

    Raises:
        SolopoError: for what cannot be read, an unknown key, or a value of a wrong type.
    """
    values: dict = {}
    argv = list(argv)
    if argv and argv[0].endswith((".yaml", ".yml")):
        values = _read_yaml(argv.pop(0))
    values.update(_read_overrides(argv))
    refuse_unknown(cls, values, command)
    return cls(**values)


def refuse_unknown(cls: type, values: dict, owner: str) -> None:
    """Refuses keys that are no fields of `cls`; `owner` is what they would be keys of."""
    keys = [item.name for item in dataclasses.fields(cls)]
    for key in values:
        if key not in keys:
            close = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"the keys are {', '.join(keys)}."
            raise SolopoError(f"`{key}` is not a key of {owner}: {hint}")


def check_types(args: Any) -> None:
    """Gives every field of a dataclass its type, or refuses its value."""
    for item in dataclasses.fields(args):
        setattr(args, item.name, checked(item, getattr(args, item.name)))


def require(args: Any, *keys: str) -> None:
    """Refuses keys that were left out."""
    for key in keys:
        if getattr(args, key) is None:
            raise SolopoError(f"`{key}` is missing: add `{key}: ...` to the YAML or {key}=... to the command.")


def checked(item: Field, value: Any) -> Any:
    """Returns the value in one of the field's types, or refuses it. YAML checks no types."""
    choices = _choices(item)
    if choices:
        if value not in choices:
            raise SolopoError(f"{item.name} is {value!r}: write {', '.join(choices[:-1])} or {choices[-1]}.")
        return value
    kinds = [kind for kind in _kinds(item) if kind is not types.NoneType]
    if value is None and len(kinds) < len(_kinds(item)):
        return None
    for kind in kinds:
        converted = _convert(value, kind)
        if converted is not None:
            return converted
    wanted = " or ".join(KINDS[kind] for kind in kinds)
    example = f", such as {item.default}" if isinstance(item.default, (int, float)) and list[int] not in kinds else ""
    raise SolopoError(f"{item.name} is {value!r}: write {wanted}{example}.")


def help_text(cls: type, usage: str) -> str:
    """The fields with their types, defaults and help, for `--help`."""
    return "\n".join([f"usage: {usage}", "", "Keys of the YAML file and of overrides:", describe(cls)])


def describe(cls: type) -> str:
    """The fields alone."""
    lines = []
    for item in dataclasses.fields(cls):
        kinds = _choices(item) or [_plain_name(kind) for kind in _kinds(item) if kind is not types.NoneType]
        kind = "|".join(kinds)
        value = item.default
        if value is dataclasses.MISSING:
            value = None if item.default_factory is dataclasses.MISSING else item.default_factory()
        default = "" if value is None else f", default {_as_yaml(value)}"
        lines.append(f"  {item.name} ({kind}{default})")
        lines += textwrap.wrap(item.metadata["help"], 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _choices(item: Field) -> tuple[str, ...]:
    return get_args(item.type) if get_origin(item.type) is Literal else ()


def _kinds(item: Field) -> tuple:
    return get_args(item.type) if isinstance(item.type, types.UnionType) else (item.type,)


def _plain_name(kind: Any) -> str:
    return kind.__name__ if kind in PLAIN else f"list of {get_args(kind)[0].__name__}"


def _as_yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _convert(value: Any, kind: Any) -> Any:
    """The value as that type; None where it is of another."""
    if isinstance(value, bool) or kind is bool:
        return value if isinstance(value, bool) and kind is bool else None
    if kind is int and isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return int(value)
    if kind is float and isinstance(value, (int, float, str)):
        try:
            return float(value)
        except ValueError:
            return None
    if kind is str:
        return value if isinstance(value, str) and value.strip() else None
    if kind not in PLAIN:
        (inner,) = get_args(kind)
        items = [_convert(each, inner) for each in value] if isinstance(value, list) else []
        return items if items and None not in items else None
    return value if isinstance(value, kind) else None


def _read_yaml(path: str) -> dict:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not os.path.isfile(path):
        raise SolopoError(
            f"'{path}' is not a file: give the path of a YAML file, or write all keys as key=value (the recipes come with the "
            "source of solopo-llamafactory, not with an install)."
        )
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SolopoError(f"'{path}' cannot be read as YAML ({reason}): write one `key: value` a line.") from None
    if not isinstance(values, dict):
        raise SolopoError(f"'{path}' holds no keys: write one `key: value` a line.")
    return values


def _read_overrides(argv: list[str]) -> dict:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for text in argv:
        if "=" not in text or text.startswith(("-", "=")):
            raise SolopoError(f"'{text}' is not understood: write [CONFIG.yaml] first, then key=value overrides.")
    try:
        return OmegaConf.to_container(OmegaConf.from_cli(argv), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SolopoError(f"'{' '.join(argv)}' cannot be read ({reason}): write overrides as key=value.") from None
