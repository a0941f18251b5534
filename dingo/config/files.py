"""Files: a Config read from YAML. What is wrong is told with its line, and nothing of the file is quoted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from dingo.config.fields import kinds_of, unknown
from dingo.config.knobs import Config
from dingo.errors import BadConfig
from dingo.masking import MASK, shown


def read(path: str | os.PathLike[str]) -> Config:
    """Read a Config from a YAML file. Raises `BadConfig`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    return config_of(path, data)


def unreadable(path: str | os.PathLike[str], error: OSError) -> BadConfig:
    """Make the error for a file that cannot be read."""
    return BadConfig(f"{os.fspath(path)}: cannot be read: {error.strerror or type(error).__name__}")


def config_of(path: str | os.PathLike[str], data: bytes) -> Config:
    """Make a Config of what a YAML file holds. Raises `BadConfig`."""
    where = os.fspath(path)
    kinds = kinds_of(Config)
    values: dict[str, Any] = {}
    for name, (line, value) in _load(where, data).items():
        kind = kinds.get(name)
        try:
            if kind is None:
                raise unknown(name, kinds)
            values[name] = kind.checked(name, value)
        except BadConfig as error:
            raise BadConfig(f"{where}:{line}: {error}") from None
    try:
        return Config(**values)
    except BadConfig as error:
        raise BadConfig(f"{where}: {error}") from None


def _load(where: str, data: bytes) -> dict[str, tuple[int, object]]:
    """Return the keys of the file's mapping, each with its line and its value, or raise `BadConfig`."""
    try:
        import yaml  # noqa: PLC0415 - an extra, and only files need it
    except ImportError:
        raise BadConfig(
            f"{where}: reading YAML needs PyYAML: install the extra with `pip install 'dingo-tasks[yaml]'`"
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadConfig(f"{where}:{line}: not valid YAML: the file is not UTF-8") from None
    # PyYAML's own texts quote the file, which holds secrets: only their harmless parts are passed on.
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                what = "is empty" if node is None else f"holds a {node.id}"
                raise BadConfig(f"{where}: must be a mapping of keys to values ({{}} for none), but {what}")
            return _pairs(where, yaml, loader, node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark is not None else ""
        why = ": ".join(_without_quotes(part) for part in (error.context, error.problem) if part)
        raise BadConfig(f"{where}{at}: not valid YAML: {why}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadConfig(f"{where}:{line}: not valid YAML: a control character") from None
    except RecursionError:
        raise BadConfig(f"{where}: not valid YAML: nested too deeply") from None


def _pairs(where: str, yaml: Any, loader: Any, node: Any, *, nested: bool = False) -> dict[str, Any]:
    """Return a mapping node's pairs: name to (line, value), or name to value for one inside another."""
    lines: dict[str, int] = {}
    pairs: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise BadConfig(f"{where}:{line}: a key must be a name, not a {key_node.id}")
        name = str(key_node.value)
        if name in lines:
            raise BadConfig(f"{where}:{line}: key {shown(name)} is given twice, first on line {lines[name]}")
        lines[name] = line
        if isinstance(value_node, yaml.MappingNode) and not nested:
            value: object = _pairs(where, yaml, loader, value_node, nested=True)
        else:
            value = _value(where, yaml, loader, value_node)
        pairs[name] = value if nested else (line, value)
    return pairs


def _value(where: str, yaml: Any, loader: Any, node: Any) -> object:
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, RecursionError):
        raise
    except Exception as error:  # PyYAML lets whatever int(), datetime() ... raise through: `2024-99-99`
        line = node.start_mark.line + 1
        raise BadConfig(f"{where}:{line}: a value cannot be read ({type(error).__name__})") from None


def _without_quotes(text: str) -> str:
    """Blank what PyYAML quotes of the file, but not the names of its tokens or single characters."""
    return re.sub(
        r"'<[\w ]+>'|([\"']).{3,}\1",
        lambda quoted: f"'{MASK}'" if quoted[1] else quoted[0],
        text,
        flags=re.DOTALL,
    )
