"""The configuration beside a checkpoint: a stranger's YAML, of which every number is bounded before a network is built.

A configuration says which architecture it is for, its arguments, the names of its outputs, and how it was meant to be
run (sample rate, length of a segment, overlap). Plain values are read, and `!!python/tuple`, which is a list here;
nothing else. What only training needs is left alone.

A `config.json` of splifft says the same in other words; it is read as far as gbsep knows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...errors import BackendError, SmallFileError, nearest, shown
from ...schema import first_problem
from ...stemnames import OTHER
from ...store import smallfiles
from .arguments import ARCHITECTURES, IGNORED, Audio, Inference, Training

MAX_YAML_BYTES = 2**18
MAX_STEMS = 64
MAX_SEGMENT_S = 120.0
MAX_SPECTRA = 8192
"""Spectra in a segment: memory grows with them, for some networks with their square."""


@dataclass(frozen=True, eq=False)
class Config:
    """What a configuration says, checked.

    sources: the network's outputs in their order. rest: the name of what is left of the mixture when the network gives
    one stem of it, else None. arguments: those of the network. segment and step: frames of a segment and from one to
    the next. shortest: the least frames of a segment. standardised: whether the network wants the mixture without its
    mean and divided by its deviation.
    """

    path: Path
    architecture: str
    sources: tuple[str, ...]
    rest: str | None
    arguments: dict[str, Any]
    sample_rate: int
    channels: int
    segment: int
    step: int
    shortest: int
    standardised: bool

    @property
    def stems(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return self.sources if self.rest is None else (*self.sources, self.rest)


def read_config(path: Path) -> Config:
    """Read and check the configuration of a checkpoint. Raises BackendError, in a line, for what is wrong with it."""
    try:
        document = _document(path)
    except SmallFileError as error:
        raise BackendError(f"{path} {error.reason}") from None
    try:
        return _checked(path, document)
    except ValueError as error:
        raise BackendError(f"{path}: {error}") from None


def looks_like_config(path: Path) -> bool:
    """Whether a file is of this kind at all, right or wrong; the bag of a Demucs model is not."""
    try:
        return {"training", "model"} <= _document(path).keys()
    except SmallFileError:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            keys = {line.partition(":")[0] for line in smallfiles.head(path, MAX_YAML_BYTES).decode().splitlines()}
            return {"training", "model"} <= keys
        return False


def _document(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        document = smallfiles.read_json(path, MAX_YAML_BYTES)
        document = _from_splifft(document) if isinstance(document, dict) and "model_type" in document else document
    else:
        document = smallfiles.read_yaml(path, MAX_YAML_BYTES, tuples=True)
    if not isinstance(document, dict):
        raise SmallFileError(path, "is no configuration of a checkpoint: it must hold keys and values")
    return document


def _checked(path: Path, document: Mapping[str, Any]) -> Config:
    """Raises ValueError that names the place and what is allowed."""
    architecture = _architecture(document)
    kind = ARCHITECTURES[architecture]
    training = _parsed(Training, document, "training")
    audio = _parsed(Audio, document, "audio")
    inference = _parsed(Inference, document, "inference")
    ignored = kind.ignored | IGNORED
    section = {key: value for key, value in _section(document, kind.section).items() if key not in ignored}
    arguments = _parsed(kind.arguments, {kind.section: section}, kind.section).model_dump(exclude_none=True)
    sources, rest = _stems(training)
    sample_rate = training.samplerate or audio.sample_rate
    channels = kind.channels(arguments, audio, training)
    segment = kind.segment(audio, training, inference, sample_rate)
    if not 256 <= segment <= MAX_SEGMENT_S * sample_rate:
        raise ValueError(f"a segment of {segment} frames is not allowed: 256 to {MAX_SEGMENT_S:g} s")
    hop, shortest = kind.hop(arguments, audio), kind.fft(arguments, audio) // 2 + 1
    if segment < shortest:
        raise ValueError(f"a segment of {segment} frames is too short for its spectra: at least {shortest}")
    if segment > MAX_SPECTRA * hop:
        raise ValueError(f"a segment of {segment} frames in hops of {hop} has more than {MAX_SPECTRA} spectra")
    named = kind.count(arguments)
    if named is not None and named != len(sources):
        raise ValueError(f"the network gives {named} stems, but {len(sources)} are named: {', '.join(sources)}")
    step = segment // inference.num_overlap if inference.num_overlap else segment - segment // 2
    if inference.overlap_size is not None:
        step = segment - inference.overlap_size
    if not segment // 100 < step <= segment:
        raise ValueError(f"segments of {segment} frames every {step} are not allowed")
    arguments = kind.complete(arguments, audio, training, sources)
    standardised = bool(inference.normalize)
    return Config(
        path, architecture, sources, rest, arguments, sample_rate, channels, segment, step, shortest, standardised
    )  # fmt: skip


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name) or {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} must hold keys and values, not {shown(section)}")
    return section


def _parsed(model: Any, document: Mapping[str, Any], name: str) -> Any:
    try:
        return model.model_validate(dict(_section(document, name)))
    except ValidationError as error:
        key, reason = first_problem(error, model)
        raise ValueError(f"{name}.{key} {reason}" if key else f"{name} {reason}") from None


def _stems(training: Training) -> tuple[tuple[str, ...], str | None]:
    """The network's outputs, and the name of what is left. Names are told apart in lower case."""
    names = tuple(name.strip().lower() for name in training.instruments)
    if not names or len(names) > MAX_STEMS or len(set(names)) != len(names) or not all(names):
        raise ValueError(f"training.instruments must be 1 to {MAX_STEMS} different names")
    if training.target_instrument is None:
        return names, None
    target = training.target_instrument.strip().lower()
    rest = next((name for name in names if name != target), OTHER if target != OTHER else "rest")
    return (target,), rest


def _architecture(document: Mapping[str, Any]) -> str:
    """Which network it is: what the file calls it, else what its keys tell. Raises ValueError."""
    model = document.get("model")
    if isinstance(model, str):
        named: Any = model
    else:
        keys = model if isinstance(model, Mapping) else {}
        named = document.get("model_type") or keys.get("model_type") or keys.get("architecture") or keys.get("type")
    if isinstance(named, str) and named:
        if named.lower() not in ARCHITECTURES:
            raise ValueError(f"gbsep does not run the architecture {shown(named)}{nearest(named, ARCHITECTURES)}")
        return named.lower()
    for name, kind in ARCHITECTURES.items():
        if kind.telling and kind.telling <= _section(document, kind.section).keys():
            return name
    known = ", ".join(ARCHITECTURES)
    raise ValueError(f"it does not say which architecture it is for: set model_type to one of {known}")


def _from_splifft(document: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of splifft's RoFormers in the words of the family; others are left as they are."""
    model = document.get("model")
    if document["model_type"] != "bs_roformer" or not isinstance(model, Mapping):
        return dict(document)
    bands = model.get("band_config") or {}
    mel = isinstance(bands, Mapping) and bands.get("kind") == "mel"
    names = model.get("output_stem_names")
    count = len(names) if isinstance(names, list) else 0
    kept = ("dim", "depth", "dim_head", "heads", "mlp_expansion_factor", "stft_hop_length", "skip_connection")
    arguments = {key: model[key] for key in kept if key in model} | {"stereo": True, "num_stems": count}
    arguments |= {"time_transformer_depth": 1, "freq_transformer_depth": 1}
    if mel:
        arguments["num_bands"] = bands.get("num_bands", 60)
    training = {"instruments": names, "target_instrument": names[0] if names and count == 1 else None}
    return {
        "model_type": "mel_band_roformer" if mel else "bs_roformer",
        "model": arguments,
        "training": training,
        "audio": {"chunk_size": model.get("chunk_size")},
        "inference": {"num_overlap": 2},
    }
