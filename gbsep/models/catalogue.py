"""The published models and the one inside gbsep: their files, sources and licences.

A model is EMBEDDED, a row of MODELS (a published one) or a user's own, under any name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ParameterError, nearest
from ..schema import is_device
from ..stemnames import BASS, BASS_AND_GUITAR, DRUMS, FOUR_STEMS, GUITAR, OTHER, PIANO, VOCALS
from ..store.folders import data_folder

HUB = "https://huggingface.co"

HUB_OWNER = "adefossez"

DEMUCS_URL = "https://dl.fbaipublicfiles.com/demucs"

DEMUCS_LICENCE = "weights: terms for commercial use unclear (their authors: for research); code: MIT"

UMX_LICENCE = "weights: published with the MIT code, trained on MUSDB18 (recordings for non-commercial use)"

NONE_STATED = "weights: no licence stated: ask their authors before commercial use"

OWN_NEXT_STEP = "Bring its files into a folder and name that with --models DIR or GBSEP_MODELS."

OWN_LICENCE = "your own model: its terms are yours to know"


@dataclass(frozen=True)
class Model:
    """A published model.

    files: names under `url`, one per network of a Demucs bag or per target of an Open-Unmix model, each ending in the
    first eight hex digits of its SHA-256, or a checkpoint and its configuration, whose hashes are in `sha256`. weights:
    one row per network of a bag, one factor per stem; None means all ones. segment_s overrides the networks' own. hub:
    name of its repository on the Hugging Face hub. aliases: what other tools call it, without a suffix.
    """

    name: str
    backend: str
    stems: tuple[str, ...]
    sample_rate: int
    size_mb: int
    licence: str
    limits: str
    url: str
    files: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment_s: float | None = None
    hub: str | None = None
    sha256: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def _demucs(name: str, url: str, files: str, size_mb: int, limits: str, hub: str, **bag: Any) -> Model:
    names = tuple(f"{file}.th" for file in files.split())
    return Model(
        name, "demucs", bag.pop("stems", FOUR_STEMS), 44100, size_mb, DEMUCS_LICENCE, limits,
        f"{DEMUCS_URL}/{url}", names, hub=hub, **bag,
    )  # fmt: skip


def _umx(name: str, record: int, files: str, size_mb: int, licence: str, limits: str) -> Model:
    names = tuple(f"{file}.pth" for file in files.split())
    url = f"https://zenodo.org/records/{record}/files"
    return Model(name, "openunmix", FOUR_STEMS, 44100, size_mb, licence, limits, url, names)


def _msst(
    name: str, stems: tuple[str, ...], size_mb: int, limits: str, url: str, files: str, hashes: str, aliases: str
) -> Model:
    return Model(
        name, "msst", stems, 44100, size_mb, NONE_STATED, limits, url, tuple(files.split()),
        sha256=tuple(hashes.split()), aliases=tuple(aliases.split()),
    )  # fmt: skip


EMBEDDED = Model(
    "compact", "compact", BASS_AND_GUITAR, 8000, 2,
    "weights: that of gbsep; trained on CC0, CC BY and MIT sounds alone (credits in its card); the stems are yours",
    "made for guitars and a bass; drums and voices stay with the guitar", "", ("compact.safetensors",),
)  # fmt: skip
"""The model inside gbsep; `card` says how it was made and how good it is."""

EMBEDDED_FOLDER = Path(__file__).parents[1] / "separation" / "compact"

_ONE_STEM_EACH = tuple(tuple(float(row == stem) for stem in range(4)) for row in range(4))

MODELS = {
    row.name: row
    for row in (
        _demucs(
            "htdemucs", "hybrid_transformer", "955717e8-8726e21a", 84,
            "guitar is inside 'other'", "HTDemucs",
        ),
        _demucs(
            "htdemucs_ft", "hybrid_transformer",
            "f7e0c4bc-ba3fe64a d12395a8-e57c48e6 92cfc3b6-ef3bcb9c 04573f0d-f3cf25b2", 336,
            "guitar is inside 'other'; one network per stem", "HTDemucs-ft", weights=_ONE_STEM_EACH,
        ),
        _demucs(
            "htdemucs_6s", "hybrid_transformer", "5c90dfd2-34c22ccb", 55,
            "the only one with a guitar stem; its piano is weak", "HTDemucs-6s", stems=(*FOUR_STEMS, GUITAR, PIANO),
        ),
        _demucs(
            "hdemucs_mmi", "hybrid_transformer", "75fc33f5-1941ce65", 168,
            "guitar is inside 'other'; 44 s segments", "Demucs-hdemucs_mmi", segment_s=44.0,
        ),
        _demucs(
            "mdx_extra", "mdx_final",
            "e51eebcc-c1b80bdd a1d90b5c-ae9d2452 5d2d6c55-db83574e cfa93e08-61801ae1", 670,
            "guitar is inside 'other'; 44 s segments, four networks for every stem", "Demucs-mdx_extra",
            segment_s=44.0,
        ),
        _umx(
            "umx", 3370486, "vocals-c8df74a5 drums-5a48008b bass-646024d3 other-f8e132cc", 142,
            UMX_LICENCE, "guitar is inside 'other'; nothing above 16 kHz is modelled, trained on compressed MUSDB18",
        ),
        _umx(
            "umxhq", 3370489, "vocals-b62c91ce drums-9619578f bass-8d85a5bd other-b52fbbf7", 142,
            UMX_LICENCE, "guitar is inside 'other'; nothing above 16 kHz is modelled",
        ),
        _umx(
            "umxl", 5069601, "vocals-bccbd9aa drums-69e0ebd4 bass-2ca1ce51 other-c8c5b3e6", 452,
            "weights: CC BY-NC-SA 4.0, non-commercial only; code: MIT",
            "guitar is inside 'other'; nothing above 16 kHz is modelled",
        ),
        _msst(
            "bs_roformer_sw", (BASS, DRUMS, OTHER, VOCALS, GUITAR, PIANO), 699,
            "six stems, bass and guitar among them; slow without a GPU",
            f"{HUB}/enerjazzer/BS-ROFO-SW-Fixed/resolve/main", "BS-Rofo-SW-Fixed.ckpt BS-Rofo-SW-Fixed.yaml",
            "24e7d35ee9c64415673d3fd33e06a67cac2c103c5df6267ba1576459c775916e "
            "f9fada9f94e5ba2d2e4600196299459294bc5f532b314c209cc156ac63e4329b",
            "BS-Roformer-SW bs_roformer-fruit-sw",
        ),
        _msst(
            "mel_guitar_becruily", (GUITAR, OTHER), 45,
            "a small MelBand-RoFormer: guitar and the rest, in which the bass is",
            f"{HUB}/becruily/mel-band-roformer-guitar/resolve/main", "becruily_guitar.ckpt config_guitar_becruily.yaml",
            "83472bbf125774af5282d2e0b86df89eaf2dd45e8a4ec8d68e820ebf3e42a83c "
            "b681c3f886251b04b666b3f06e87ce65d7ec610e40b5d75915c01782e5444b0e",
            "mel_roformer-becruily-guitar melband_roformer_guitar_becruily mel_band_roformer_guitar_becruily",
        ),
    )
}  # fmt: skip
"""The published models."""


def data_dir() -> Path:
    """gbsep's own folder of weights."""
    return data_folder() / "models"


def card() -> dict[str, Any]:
    """How the embedded model was made and how good it is: SHA-256, seed, data, credits, quality."""
    result: dict[str, Any] = json.loads((EMBEDDED_FOLDER / f"{EMBEDDED.name}.json").read_text(encoding="utf-8"))
    return result


def published(name: str) -> Model | None:
    """The embedded or published model of that name; None for any other."""
    return EMBEDDED if name == EMBEDDED.name else MODELS.get(name)


def row(name: str) -> Model:
    """The published model of that name. Raises ParameterError for any other, and for the embedded one."""
    if name == EMBEDDED.name:
        raise ParameterError("model", name, "it is inside gbsep, there is nothing to download")
    if name not in MODELS:
        raise ParameterError("model", name, f"no published model has this name{nearest(name, MODELS)}")
    return MODELS[name]


def check_name(name: str, parameter: str = "model", instead: str = "") -> None:
    """Raise ParameterError for a name that no model can have; `instead` adds what else is allowed."""
    if not re.fullmatch(r"\w[\w.+ -]{0,99}", name):
        raise ParameterError(parameter, name, f"at most 100 letters, digits and . _ + - only, no folder{instead}")
    if is_device(name) or name.endswith((" ", ".")):
        raise ParameterError(parameter, name, f"Windows keeps this name for itself or cuts its end off{instead}")


def next_step(model: Model) -> str:
    """A sentence on how to get the weights of a published model."""
    return (
        f"Run `gbsep models get {model.name}` where there is a network, or bring {', '.join(model.files)} from "
        f"{model.url} by hand into {data_dir() / model.name}, or into a folder that you name with --models DIR or "
        "GBSEP_MODELS."
    )
