"""Model weights: where they are, fetching, verifying, reading, licences.

A model is EMBEDDED, a row of MODELS (a published one) or a user's own, under any name. The embedded one is inside
gbsep, with its SHA-256 on its card; the weights of all others are looked for in

1. the folder given as `--models` or, without one, `GBSEP_MODELS`,
2. gbsep's own folder, `data_dir()`,
3. the Hugging Face cache,

in each at `<folder>/<model>/` and then at `<folder>/`; when they are in none, they are downloaded into gbsep's own.

Formats, all read without running anything a file says:

- Demucs hub: `<model>.yaml` (`models`: signatures, `weights`: one row per network, `segment`: seconds) beside
  `<signature>.safetensors`, which holds class and arguments of the network in its metadata;
- Demucs legacy: the same yaml beside `<signature>-<SHA-256 prefix>.th`, a pickled package;
- compact: `<model>.safetensors` with the network's shape as `config` in its metadata;
- Open-Unmix: `<target>-<SHA-256 prefix>.pth`, one state dict per stem; a user's own as `<target>.pth` in a folder of
  the model's name, beside Open-Unmix's `separator.json`.

A single Demucs network needs no yaml. A SHA-256 prefix in a file's name is checked; every file's SHA-256 is recorded
under `state_dir()` when it is first used, and a file that has changed since is refused until `trust` accepts it. So is
what a backend found usable (`check_once`).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import math
import os
import pickle
import re
import shlex
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import BackendError, ParameterError, SmallFileError, WeightsMissing, nearest, sentence
from ..schema import Lenient, Sha256, validated
from ..store import smallfiles
from ..store.folders import data_folder, state_folder, write_whole

STEMS = ("drums", "bass", "other", "vocals")
HUB = "https://huggingface.co"
HUB_OWNER = "adefossez"
DEMUCS_URL = "https://dl.fbaipublicfiles.com/demucs"
DEMUCS_LICENCE = "weights: terms for commercial use unclear (their authors: for research); code: MIT"
UMX_LICENCE = "weights: published with the MIT code, trained on MUSDB18 (recordings for non-commercial use)"
BACKENDS = ("compact", "demucs", "openunmix")
OWN_NEXT_STEP = "Bring its files into a folder and name that with --models DIR or GBSEP_MODELS."
OWN_LICENCE = "your own model: its terms are yours to know"


@dataclass(frozen=True)
class Model:
    """A published model.

    files: names under `url`, one per network of a Demucs bag or per target of an Open-Unmix model, each ending in the
    first eight hex digits of its SHA-256. weights: one row per network of a bag, one factor per stem; None means all
    ones. segment_s overrides the networks' own. hub: name of its repository on the Hugging Face hub.
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


def _demucs(name: str, url: str, files: str, size_mb: int, limits: str, hub: str, **bag: Any) -> Model:
    names = tuple(f"{file}.th" for file in files.split())
    return Model(
        name, "demucs", bag.pop("stems", STEMS), 44100, size_mb, DEMUCS_LICENCE, limits,
        f"{DEMUCS_URL}/{url}", names, hub=hub, **bag,
    )  # fmt: skip


def _umx(name: str, record: int, files: str, size_mb: int, licence: str, limits: str) -> Model:
    names = tuple(f"{file}.pth" for file in files.split())
    url = f"https://zenodo.org/records/{record}/files"
    return Model(name, "openunmix", STEMS, 44100, size_mb, licence, limits, url, names)


EMBEDDED = Model(
    "compact", "compact", ("bass", "guitar"), 8000, 2,
    "weights: that of gbsep; trained on CC0, CC BY and MIT sounds alone (credits in its card); the stems are yours",
    "made for guitars and a bass; drums and voices stay with the guitar", "", ("compact.safetensors",),
)  # fmt: skip
"""The model that is shipped inside gbsep; `card` says how it was made and how good it is."""

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
            "the only one with a guitar stem; its piano is weak", "HTDemucs-6s", stems=(*STEMS, "guitar", "piano"),
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
    )
}  # fmt: skip
"""The published models."""


@dataclass(frozen=True)
class Found:
    """Weights on this machine, verified.

    files: one per network of a Demucs bag, or per target of an Open-Unmix model (the target is `target_of(path)`);
    sha256: one per file. weights and segment_s as in Model. `digest` names all of it in one hash.
    """

    name: str
    backend: str
    licence: str
    files: tuple[Path, ...]
    sha256: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment_s: float | None = None

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by name of the file."""
        return {path.name: sha256 for path, sha256 in zip(self.files, self.sha256, strict=True)}

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([self.sha256, self.weights, self.segment_s]).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Package:
    """What a Demucs weight file holds: the dotted name of a class, its arguments and a state dict of tensors."""

    path: Path
    architecture: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: dict[str, Any] = field(repr=False)


def data_dir() -> Path:
    """gbsep's own folder of weights."""
    return data_folder() / "models"


def state_dir() -> Path:
    """Where the SHA-256 of every file used is recorded."""
    return state_folder() / "weights"


def card() -> dict[str, Any]:
    """How the embedded model was made and how good it is: SHA-256, seed, data, credits, quality."""
    return json.loads((EMBEDDED_FOLDER / f"{EMBEDDED.name}.json").read_text(encoding="utf-8"))


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


def target_of(path: Path) -> str:
    """The stem an Open-Unmix file is for: `bass` of `bass-8d85a5bd.pth`."""
    return _CHECKSUM.sub("", path.stem)


# ------------------------------------------------------------------------------------------------------------ finding


def find(
    name: str,
    backend: str,
    models_dir: str | Path | None = None,
    *,
    download: bool = True,
    accept: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Found:
    """The verified weights of model `name`, downloaded when they are nowhere and `download` is set.

    `accept` trusts files that have changed since gbsep first used them, and records them as they are now.

    Raises ParameterError when `name` is no plain name or belongs to another backend, WeightsMissing when there are no
    such weights here, and BackendError when a file is not what its name or its record says.
    """
    check_name(name)
    known = published(name)
    if known is EMBEDDED and backend == EMBEDDED.backend:
        return _embedded()
    if known is not None and known.backend != backend:
        raise ParameterError("model", name, f"it is a model of the backend {known.backend!r}, not of {backend!r}")
    looked_in = []
    there = ["--models", str(models_dir)] if models_dir else []
    accepting = shlex.join(["gbsep", "models", "verify", name, *there, "--accept"])
    check = trust if accept else partial(verify, accepting=accepting)
    for place in _places(known, models_dir):
        found, lacking = _look(place, name, backend, check)
        if found is not None:
            return found
        looked_in.append(f"{place} (no {lacking})")
    if known is None:
        names = {row.name: row.backend for row in (EMBEDDED, *MODELS.values())} | own_models(models_dir)
        hint = nearest(name, (one for one, belongs_to in names.items() if belongs_to == backend))
        said = sentence(f"No model has this name{hint}")
        raise WeightsMissing(name, looked_in, f"{said} {OWN_NEXT_STEP}")
    if not download:
        raise WeightsMissing(name, looked_in, next_step(known))
    try:
        fetch(name, progress)
    except OSError as error:
        raise WeightsMissing(name, looked_in, f"Downloading failed ({error}). {next_step(known)}") from None
    return find(name, backend, models_dir, download=False)


def check_name(name: str, parameter: str = "model", instead: str = "") -> None:
    """Raise ParameterError, which may say what can stand `instead`, for what cannot be the name of a model."""
    if not re.fullmatch(r"\w[\w.+ -]{0,99}", name):
        raise ParameterError(parameter, name, f"at most 100 letters, digits and . _ + - only, no folder{instead}")


def _embedded() -> Found:
    """The model inside gbsep, whose SHA-256 is known."""
    path = EMBEDDED_FOLDER / EMBEDDED.files[0]
    wanted, found = card()["sha256"], _sha256(path)
    if found != wanted:
        raise BackendError(
            f"{path} is damaged: its SHA-256 begins with {found[:12]}, not with {wanted[:12]}; install gbsep again"
        )
    return Found(EMBEDDED.name, EMBEDDED.backend, EMBEDDED.licence, (path,), (found,))


def next_step(model: Model) -> str:
    """How to bring the weights of a published model here."""
    return (
        f"Run `gbsep models get {model.name}` where there is a network, or bring {', '.join(model.files)} from "
        f"{model.url} by hand into {data_dir() / model.name}, or into a folder that you name with --models DIR or "
        "GBSEP_MODELS."
    )


def _places(model: Model | None, models_dir: str | Path | None) -> Iterator[Path]:
    given = models_dir or os.environ.get("GBSEP_MODELS")
    if given:
        yield Path(given).expanduser()
    yield data_dir()
    if model is not None and model.hub is not None:
        home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
        cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
        repository = cache / f"models--{HUB_OWNER}--{model.hub}"
        revision = repository / "refs" / "main"
        yield repository / "snapshots" / (revision.read_text().strip() if revision.is_file() else "")


def _look(place: Path, name: str, backend: str, check: Callable[[Path], str]) -> tuple[Found | None, str]:
    """What `place` holds of the model; without it, None and the first file lacking."""
    find_files = {"compact": _compact_files, "demucs": _demucs_files, "openunmix": _openunmix_files}[backend]
    lacking = ""
    for folder in (place / name, place):
        files, lacking, bag = find_files(folder, name)
        if files:
            licence = MODELS[name].licence if name in MODELS else OWN_LICENCE
            return Found(name, backend, licence, files, tuple(check(file) for file in files), **bag), ""
    return None, lacking


def _compact_files(folder: Path, name: str) -> tuple[tuple[Path, ...], str, dict[str, Any]]:
    path = folder / f"{name}.safetensors"
    return ((path,) if path.is_file() else ()), path.name, {}


def _demucs_files(folder: Path, name: str) -> tuple[tuple[Path, ...], str, dict[str, Any]]:
    signatures, bag = _bag(folder / f"{name}.yaml", name)
    files = []
    for signature in signatures:
        file = _network_file(folder, signature)
        if file is None:
            return (), f"{signature}.safetensors or {signature}-<SHA-256 prefix>.th", {}
        files.append(file)
    return tuple(files), "", bag


def _bag(path: Path, name: str) -> tuple[list[str], dict[str, Any]]:
    """Signatures, weights and segment of a bag: from its yaml, else the published ones, else a single network."""
    if not path.is_file():
        model = MODELS.get(name)
        if model is None:
            return [name], {}
        return [file.split("-")[0] for file in model.files], {"weights": model.weights, "segment_s": model.segment_s}
    try:
        content = smallfiles.read_yaml(path)
        signatures, weights, segment_s = content["models"], content.get("weights"), content.get("segment")
        if not signatures or not all(re.fullmatch(r"\w[\w.+-]*", signature) for signature in signatures):
            raise ValueError("'models' must be a list of signatures")
        if weights is not None:
            weights = tuple(tuple(float(factor) for factor in row) for row in weights)
            if len(weights) != len(signatures) or not all(0 <= factor < math.inf for row in weights for factor in row):
                raise ValueError("'weights' must hold one row of factors from 0 up per network")
        if segment_s is not None and not 0 < float(segment_s) < math.inf:
            raise ValueError("'segment' must be a number of seconds above 0")
    except SmallFileError as error:
        raise BackendError(f"{path} is no bag of Demucs models: {error.reason}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackendError(f"{path} is no bag of Demucs models: {_one_line(error)}") from error
    return list(signatures), {"weights": weights, "segment_s": None if segment_s is None else float(segment_s)}


def _network_file(folder: Path, signature: str) -> Path | None:
    hub = folder / f"{signature}.safetensors"
    if hub.is_file():
        return hub
    legacy = [path for path in _listed(folder, ".th") if signature in (path.stem, _CHECKSUM.sub("", path.stem))]
    if len(legacy) > 1:
        raise BackendError(f"{folder} holds {' and '.join(p.name for p in legacy)}: remove all but one of them")
    return legacy[0] if legacy else None


def _openunmix_files(folder: Path, name: str) -> tuple[tuple[Path, ...], str, dict[str, Any]]:
    own = tuple(_listed(folder, ".pth")) if folder.name == name else ()
    if name not in MODELS:
        return own, f"{name}/<stem>.pth", {}
    published = tuple(folder / file for file in MODELS[name].files)
    if all(file.is_file() for file in published):
        return published, "", {}
    if {target_of(file) for file in own} == set(STEMS):
        return own, "", {}
    return (), next(file.name for file in published if not file.is_file()), {}


_MAX_HEADER = 10**7


def own_models(models_dir: str | Path | None = None) -> dict[str, str]:
    """The user's own models in `models_dir` (or GBSEP_MODELS) and in gbsep's own folder: {name: backend}, not verified.

    The networks of a bag and the files of published models are none.
    """
    backends: dict[str, str] = {}
    parts = {file.split("-")[0] for model in MODELS.values() for file in model.files}
    for place in _places(None, models_dir):
        folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        backends |= {folder.name: "openunmix" for folder in folders if _listed(folder, ".pth")}
        for folder in (place, *folders):
            networks = {
                _CHECKSUM.sub("", path.stem) for kind in (".safetensors", ".th") for path in _listed(folder, kind)
            }
            bags = {path.stem for path in _listed(folder, ".yaml")}
            for bag in bags:
                with contextlib.suppress(BackendError):
                    parts |= set(_bag(folder / f"{bag}.yaml", bag)[0])
            names = bags | (networks - parts)
            for name in names if folder == place else names & {folder.name}:
                backends[name] = "compact" if is_compact(folder / f"{name}.safetensors") else "demucs"
    return {name: backends[name] for name in sorted(backends) if not published(name)}


def is_compact(path: Path) -> bool:
    """Whether the header of a safetensors file holds the embedded backend's description in place of Demucs'."""
    try:
        with path.open("rb") as file:
            header = file.read(min(int.from_bytes(file.read(8), "little"), _MAX_HEADER))
        return "config" in json.loads(header).get("__metadata__", {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def _listed(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{suffix}") if path.is_file())


def notice(found: Found) -> str | None:
    """The licence of the weights in one line the first time this model is used here, afterwards None."""
    shown = state_dir() / f"{found.name}.licence"
    with contextlib.suppress(SmallFileError):
        if smallfiles.read_text(shown) == found.licence:
            return None
    _write(shown, found.licence)
    limits = f" ({MODELS[found.name].limits})" if found.name in MODELS else ""
    return f"{found.name}{limits}: {found.licence}"


# ---------------------------------------------------------------------------------------------------------- verifying

_CHECKSUM = re.compile(r"-([0-9a-f]{8,64})$")
_SETTLED_NS = 2_000_000_000


class _Known(Lenient):
    """What is recorded of a weight file; without a stamp its content is hashed each time."""

    sha256: Sha256
    stamp: list[int] | None = None


def _known(file: Path) -> _Known | None:
    try:
        return validated(file, _Known, smallfiles.read_json(file, follow=False))
    except SmallFileError:
        return None


def verify(path: Path, accepting: str = "gbsep models verify MODEL --accept") -> str:
    """The SHA-256 of a weight file, as hex; `accepting` is the command that trusts one that has changed.

    Raises BackendError when the file is empty, is not what the SHA-256 prefix in its name says, or has changed since
    gbsep first used it.
    """
    stat = path.stat()
    if stat.st_size == 0:
        raise BackendError(f"{path} is empty: delete it and fetch the model again")
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    record = _record(path)
    known = _known(record)
    if known is not None and known.stamp == stamp:
        return known.sha256
    sha256 = _sha256(path)
    named = _CHECKSUM.search(path.stem)
    if named and not sha256.startswith(named[1]):
        raise BackendError(
            f"{path} is damaged or another file: its SHA-256 begins with {sha256[: len(named[1])]}, not with "
            f"{named[1]} as its name says; delete it and fetch the model again"
        )
    if known is not None and known.sha256 != sha256:
        raise BackendError(
            f"{path} has changed since gbsep first used it (SHA-256 {known.sha256[:12]}, now {sha256[:12]}): "
            f"bring the old file back, or accept the new one with `{accepting}`"
        )
    # A file written a moment ago can change again within the clock's tick: its stamp proves nothing yet.
    settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS
    _write(record, json.dumps({"path": str(path), "sha256": sha256, "stamp": stamp if settled else None}))
    return sha256


_CHECKS_VERSION = 1
"""Raised whenever weights that were usable may no longer be."""


def check_once(found: Found, check: Callable[[], object], detail: str = "") -> None:
    """Call `check`, which raises BackendError for weights that cannot be used, unless the same ones passed it before.

    So a render whose stems are cached reads no weights. `detail` is what the check depends on beside the files.
    """
    key = json.dumps([_CHECKS_VERSION, found.backend, found.digest, detail])
    passed = state_dir() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.usable"
    if not passed.is_file():
        check()
        _write(passed, found.name)


def trust(path: Path) -> str:
    """Accept a weight file as it is now, whatever was recorded; its SHA-256. Raises BackendError as `verify` does."""
    record = _record(path)
    try:
        record.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(f"{record}, what was recorded of {path}, cannot be removed: {error.strerror}") from None
    return verify(path)


def _record(path: Path) -> Path:
    return state_dir() / f"{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]}.json"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    """Write atomically; a folder that cannot be written to leaves nothing recorded."""
    with contextlib.suppress(OSError):
        write_whole(path, text)


# ----------------------------------------------------------------------------------------------------------- fetching

_CONNECT_S = 1.0
_READ_S = 30.0
_TRIES = 3


def fetch(name: str, progress: Callable[[float], None] = lambda fraction: None) -> list[Path]:
    """Download a published model into gbsep's own folder; the paths of its files.

    What is there already is kept, a broken download goes on where it stopped, and a file appears under its name only
    when it is whole and its SHA-256 right. `progress` is told the fraction done, 0 to 1. Raises ParameterError for an
    unknown model, OSError within a second or so when there is no network, BackendError for a wrong SHA-256.
    """
    model = row(name)
    folder = data_dir() / name
    try:
        return _download([f"{model.url}/{file}" for file in model.files], folder, progress)
    except urllib.error.HTTPError:
        if model.hub is None:
            raise
    signatures = [file.split("-")[0] for file in model.files]
    files = [f"{name}.yaml", *(f"{signature}.safetensors" for signature in signatures)]
    return _download([f"{HUB}/{HUB_OWNER}/{model.hub}/resolve/main/{file}" for file in files], folder, progress)


def _download(urls: list[str], folder: Path, progress: Callable[[float], None]) -> list[Path]:
    from filelock import FileLock

    paths = [folder / url.rsplit("/", 1)[1] for url in urls]
    if not all(path.is_file() for path in paths):
        _connect(urls[0])
    state_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(state_dir() / f"{folder.name}.lock"):
        for done, (url, path) in enumerate(zip(urls, paths, strict=True)):
            if not path.is_file():
                part = path.with_name(f"{path.name}.part")
                _resume(url, part, lambda fraction, done=done: progress((done + fraction) / len(urls)))  # type: ignore[misc]
                named = _CHECKSUM.search(path.stem)
                if named and not _sha256(part).startswith(named[1]):
                    part.unlink()
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                    raise BackendError(f"{url}: the SHA-256 is not {named[1]}... as published; nothing was kept")
                part.replace(path)
            progress((done + 1) / len(urls))
    return paths


def _connect(url: str) -> None:
    """Raise OSError unless the host (or the proxy) answers within a second; name look-up alone knows no time limit."""
    target = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urllib.parse.urlsplit(proxy)
    address = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    outcome: list[str] = []

    def attempt() -> None:
        try:
            socket.create_connection(address, _CONNECT_S).close()
            outcome.append("")
        except Exception as error:
            outcome.append(_one_line(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_CONNECT_S)
    failure = outcome[0] if outcome else f"no answer within {_CONNECT_S:g} s"
    if failure:
        raise OSError(f"{address[0]} cannot be reached: {failure}")


def _resume(url: str, part: Path, progress: Callable[[float], None]) -> None:
    """Bring `part` to the full length of `url`, going on from the bytes it has."""
    have, total, failure = 0, 0, ""
    for _ in range(_TRIES):
        have = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-", "User-Agent": "gbsep"})
        try:
            response = urllib.request.urlopen(request, timeout=_READ_S)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            part.unlink()
            continue
        with response:
            if response.status != 206:
                have = 0
            total = have + int(response.headers.get("Content-Length") or 0)
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("ab" if have else "wb") as file:
                    while chunk := response.read(2**18):
                        file.write(chunk)
                        have += len(chunk)
                        progress(have / total if total else 0.0)
            except (OSError, http.client.HTTPException) as error:
                failure = f" ({_one_line(error)})"
        if have >= total:
            return
    raise OSError(f"{url} broke off at {have} of {total} bytes{failure}; the next try goes on from there")


# ------------------------------------------------------------------------------------------------------------ reading

DEMUCS_CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")
"""The only classes a weight file may name."""


def load_package(path: Path) -> Package:
    """Read a Demucs weight file, `.safetensors` or `.th`, without running or building anything it names.

    Raises BackendError when the file is damaged, names a class that is not in DEMUCS_CLASSES, holds quantised weights
    or tensors larger than itself.
    """
    read = _read_safetensors if path.suffix == ".safetensors" else _read_legacy
    try:
        package = read(path)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"{path} is no readable Demucs model: {_unreadable(error)}") from error
    if package.architecture not in DEMUCS_CLASSES:
        raise BackendError(
            f"{path} names the class {package.architecture!r}; gbsep builds only {', '.join(DEMUCS_CLASSES)}"
        )
    if "__quantized" in package.state:
        raise BackendError(f"{path} holds quantised weights, which gbsep does not read; use the plain model instead")
    _check_state(path, package.state)
    return package


def load_state(path: Path) -> dict[str, Any]:
    """Read a state dict of tensors (an Open-Unmix `.pth`) without running anything the file says.

    Raises BackendError when the file is damaged or holds anything but tensors.
    """
    try:
        state = dict(_unpickle(path, []))
    except Exception as error:
        raise BackendError(f"{path} is no readable state dict: {_unreadable(error)}") from error
    _check_state(path, state)
    return state


def _read_safetensors(path: Path) -> Package:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
        missing = {"klass", "args", "kwargs"} - set(metadata)
        if missing:
            raise ValueError(f"its metadata lacks {', '.join(sorted(missing))}")
        if "structure" in metadata:
            return Package(path, metadata["klass"], (), {}, {"__quantized": True})
        args, kwargs = (_decode(json.loads(metadata[key])) for key in ("args", "kwargs"))
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return Package(path, metadata["klass"], tuple(args), dict(kwargs), state)


def _decode(value: Any) -> Any:
    """Undo the hub's JSON encoding of arguments, where a fraction is an object of its own."""
    if isinstance(value, dict):
        if value.get("_type") == "fraction":
            return _fraction(value["numerator"], value["denominator"])
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


def _fraction(numerator: Any, denominator: Any = 1) -> Fraction:
    """A fraction of small whole numbers: `Fraction("1e999999999")` would compute that number.

    Python pickles fractions as text (`"39/5"`) or, since 3.11, as two numbers.
    """
    text = f"{numerator}/{denominator}" if isinstance(numerator, int) else str(numerator)
    if not re.fullmatch(r"\d{1,9}(/[1-9]\d{0,8})?", text):
        raise ValueError(f"{text[:40]!r} is no fraction of small whole numbers")
    return Fraction(text)


def _read_legacy(path: Path) -> Package:
    names = {type(name.rsplit(".", 1)[1], (), {}): name for name in DEMUCS_CLASSES}
    package = _unpickle(path, [*names.items(), (_fraction, "fractions.Fraction")])
    klass = package["klass"]
    return Package(
        path, names.get(klass, str(klass)), tuple(package["args"]), dict(package["kwargs"]), dict(package["state"])
    )


def _unpickle(path: Path, allowed: list[Any]) -> Any:
    """torch.load restricted to tensors, plain containers and `allowed`: (stand-in, dotted name in the file)."""
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file itself")
    with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _unreadable(error: Exception) -> str:
    """Why a file could not be read, in one line, without torch's advice to trust it."""
    reason = str(error)
    refused = re.search(r"\bGLOBAL (\S+)|reduce for unrecognized function (.+)", reason)
    if refused:
        return f"it asks to run {refused[1] or refused[2]} and was refused"
    if isinstance(error, pickle.UnpicklingError):
        reason = reason.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    return _one_line(type(error)(reason) if isinstance(error, pickle.UnpicklingError) else error)


def _check_state(path: Path, state: dict[str, Any]) -> None:
    import torch

    wrong = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if wrong or not state:
        raise BackendError(f"{path} holds {f'{wrong[0]!r}, which is no tensor' if wrong else 'no tensors'}")
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > path.stat().st_size:
        raise BackendError(f"{path} holds tensors larger than the file itself")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
