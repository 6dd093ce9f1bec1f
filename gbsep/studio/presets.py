"""Presets as the studio knows them: those of the folder, `FOLDER/presets/NAME.json`, and those with a name of gbsep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..atomic import write_whole
from ..errors import GbsepError, OutputError, WeightsMissing
from ..preset.load import load_preset
from ..preset.model import Preset
from ..preset.names import preset_names
from ..preset.own import listed_names
from ..schema import is_plain_name
from ..separation.weights import find
from .asking import Refusal

FOLDER = "presets"


def _missing(preset: Preset) -> str | None:
    """What is to be told of a preset whose weights are not here."""
    model = getattr(preset.settings, "model", None)
    if not isinstance(model, str):
        return None
    try:
        find(model, preset.backend, download=False)
    except WeightsMissing as error:
        return f"the weights of {error.model} are not here: get them with gbsep models get {error.model}"
    except GbsepError:
        return None  # the render will say what is the matter
    return None


class Presets:
    """The presets that can be chosen in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder / FOLDER

    def path(self, name: str) -> Path | None:
        """The file of one of the folder's own presets."""
        path = self.folder / f"{name}.json"
        return path if is_plain_name(path.name) and path.is_file() and not path.is_symlink() else None

    def load(self, name: str, **changes: Any) -> Preset:
        """The preset of that name. Raises PresetError, or Refusal for a name that is a path."""
        if not is_plain_name(f"{name}.json") or name.endswith(".json"):
            raise Refusal(400, f"{name[:80]!r} is not the name of a preset")
        own = self.path(name)
        return load_preset(own or name, **changes)

    def listed(self) -> list[dict[str, Any]]:
        """All of them for the page: name, title, what it is for, and what stands in its way."""
        own = sorted(path.stem for path in self.folder.glob("*.json")) if self.folder.is_dir() else []
        usual, rows = listed_names()[0], []
        for name in dict.fromkeys([*own, *listed_names(everything=True)[0]]):
            try:
                preset = self.load(name)
            except (GbsepError, Refusal) as error:
                missing = str(error)
                rows.append({"name": name, "title": name, "own": name in own, "missing": missing})
                continue
            rows.append(
                {
                    "name": name,
                    "title": preset.title,
                    "description": preset.description,
                    "own": name in own,
                    "variant": name not in own and name not in usual,
                    "stems": list(preset.stems),
                    "backend": preset.backend,
                    "model": getattr(preset.settings, "model", None),
                    "missing": _missing(preset),
                }
            )
        return rows

    def save(self, name: str, title: str, base: str, chains: dict[str, list[Any]]) -> Preset:
        """Keep a preset under a name of its own that has other chains than `base`.

        One of gbsep's presets is extended; one of the folder's own is taken whole. Raises PresetError, LookupError for
        a stem that there is not, and Refusal for a name that is taken.
        """
        known = self.load(base)
        for stem in chains:
            if stem not in known.stems:
                raise LookupError(f"the preset has no stem {stem!r}")
        changed = {stem: chain for stem, chain in chains.items() if chain != known.document["stems"][stem]["chain"]}
        if self.path(base) is None:
            stems = {stem: {"chain": chain} for stem, chain in changed.items()}
            document: dict[str, Any] = {"schema_version": 1, "name": name, "title": title, "extends": base}
            document |= {"stems": stems} if stems else {}
        else:
            document = json.loads(json.dumps(known.document)) | {"name": name, "title": title}
            for stem, chain in changed.items():
                document["stems"][stem]["chain"] = chain
        preset = load_preset(document)
        path = self.folder / f"{preset.name}.json"
        if not is_plain_name(path.name):
            raise Refusal(400, f"{name[:80]!r} is not a name for a preset")
        if name in preset_names() and self.path(name) is None:
            raise Refusal(409, f"{name} is a preset of gbsep; choose another name")
        try:
            write_whole(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise OutputError(path, f"cannot be written: {error.strerror or error}") from None
        return load_preset(path)
