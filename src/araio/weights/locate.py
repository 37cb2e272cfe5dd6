"""From the MODEL of the command line to a folder or a config: bundled model, folder, or preset.

A bundled model's name comes first, a folder second, a preset last; `./pocket` is always a folder. A preset is
the published `config.json` of a model that is not here: enough to count it, not to run it. Nothing is ever
downloaded. What cannot be found ends in a ModelNotFoundError that says what was looked for and what is near.
"""

from __future__ import annotations

import os
import shlex
from difflib import get_close_matches
from pathlib import Path

from araio.config import ModelConfig
from araio.errors import ModelNotFoundError
from araio.formats.manifest import JOURNAL_NAME, PARTIAL_SUFFIX, Manifest
from araio.json_reader import shown

__all__ = ["BUNDLED", "PRESETS", "locate", "locate_config"]

_PACKAGE = Path(__file__).resolve().parents[1]

BUNDLED = {"pocket": _PACKAGE / "models" / "pocket"}
PRESETS = {path.stem: path for path in sorted((_PACKAGE / "presets").glob("*.json"))}


def locate(name: str) -> Path:
    """The folder of a model that can be loaded: a bundled one, or a folder with a `config.json`.

    Raises ModelNotFoundError.
    """
    if name in BUNDLED:
        return _bundled(name)
    path = _path(name)
    if path.is_dir():
        return _model_folder(path)
    _refuse_unfinished(path)
    if path.exists():
        raise ModelNotFoundError(f"{path} is a file; give the folder that holds it: {path.parent}")
    if name in PRESETS:
        raise ModelNotFoundError(
            f"{name} is known by its config only (see `araio show {name}`); to run it, download its "
            "checkpoint and give the folder"
        )
    raise ModelNotFoundError(f"no model and no folder is called {shown(name)}{_hint(name, [*BUNDLED])}")


def locate_config(name: str) -> ModelConfig:
    """The config of a bundled model, a folder, a `config.json`, or a preset.

    Raises ModelNotFoundError, or ConfigError for a config that araio does not support.
    """
    if name in BUNDLED:
        return ModelConfig.from_file(_bundled(name))
    path = _path(name)
    if path.is_dir():
        return ModelConfig.from_file(_model_folder(path))
    _refuse_unfinished(path)
    if path.is_file() and path.suffix == ".json":
        return ModelConfig.from_file(path)
    if name in PRESETS:
        return ModelConfig.from_file(PRESETS[name])
    if path.exists():
        raise ModelNotFoundError(
            f"{path} is not a config.json; give the folder that holds one: {path.parent}"
        )
    known = [*BUNDLED, *PRESETS]
    raise ModelNotFoundError(f"no model, preset or folder is called {shown(name)}{_hint(name, known)}")


def _bundled(name: str) -> Path:
    folder = BUNDLED[name]
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"the bundled model {name!r} is missing from this installation (looked in {folder}); install "
            "araio again"
        )
    return folder


def _path(name: str) -> Path:
    """The path that a name spells, once the system can make sense of it at all."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except OSError as error:
        raise ModelNotFoundError(f"{shown(name)} is neither a model nor a path ({error.strerror})") from None
    except (RuntimeError, ValueError) as error:  # a home that nobody has, a character no path may hold
        raise ModelNotFoundError(f"{shown(name)} is neither a model nor a path ({error})") from None
    if not name:
        raise ModelNotFoundError(f"the name of the model is empty; try {next(iter(BUNDLED))!r} or a folder")
    return path


def _refuse_unfinished(path: Path) -> None:
    """A store that is not there since its conversion was interrupted is known by the folder beside it."""
    if path.exists():
        return
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    # os.path, since the suffix may make a name longer than the system allows, at which pathlib raises.
    if os.path.isfile(partial / JOURNAL_NAME):  # noqa: PTH113
        raise ModelNotFoundError(_unfinished(partial))


def _model_folder(path: Path) -> Path:
    if (path / JOURNAL_NAME).is_file():
        raise ModelNotFoundError(_unfinished(path))
    if (path / "config.json").is_file():
        return path
    # One level up or down, and the folder of revisions in the Hugging Face cache.
    near = [path.resolve().parent, *sorted(path.glob("*/")), *sorted(path.glob("snapshots/*/"))]
    found = [folder for folder in near if (folder / "config.json").is_file()]
    hint = f"; {found[0]} has one" if found else "; a model's folder holds config.json beside its weights"
    raise ModelNotFoundError(f"{path} has no config.json{hint}")


def _unfinished(partial: Path) -> str:
    """What an interrupted conversion is, and the command that goes on with it."""
    codecs = Manifest.read(partial / JOURNAL_NAME).codecs
    out = shlex.quote(str(partial.with_name(partial.name.removesuffix(PARTIAL_SUFFIX))))
    return (
        f"{partial} is an unfinished conversion; to finish it: araio convert MODEL {out} --quant "
        f"{codecs.experts} --dense {codecs.dense} --embeddings {codecs.embeddings}, with the MODEL that it "
        "began with"
    )


def _hint(name: str, known: list[str]) -> str:
    # "deepseek-ai/DeepSeek-R1" is meant by its last part.
    close = get_close_matches(name.rsplit("/", 1)[-1].lower(), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}, or give a checkpoint's folder (nothing is downloaded)"
