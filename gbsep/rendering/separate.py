"""The first stage of a render: the mixture, and what the separator or the cache gives of it, in files on disk.

separate(separation, reader, place, spools, progress) -> Separated
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from ..audio import Block, Reader
from ..io.spool import Spool
from ..measure.swap import swapped
from ..preset.model import exchanged
from ..separation.backend import SEPARATION_VERSION, Context, Told, backend_named, stem_blocks
from ..separation.compute import find_blas
from ..separation.settings import BackendSettings
from ..store import stemcache
from ..store.folders import state_folder
from ..store.locks import holding
from .options import Given, Separations

MAX_OTHERS = 6
"""Stems beyond those wanted of which every choice is looked for in the cache; of more, only all of them together."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Separation:
    """What is separated and how: all that decides which stems come out.

    `identity` is what the backend says of its weights, engine and threads. `swap` exchanges pairs of stems afterwards,
    or looks for a bass that came out as another stem ("auto"). `scratch` is a folder for stems that are handed on to
    other renders without the cache.
    """

    input_sha256: str
    start_s: float
    duration_s: float | None
    backend: str
    settings: BackendSettings
    context: Context
    identity: Mapping[str, Any]
    swap: Literal["auto"] | Pairs
    use_cache: bool
    scratch: Path
    outputs: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the separator's stems that are needed."""
        return self.context.wanted

    @property
    def key(self) -> str:
        """The name of the separation in the cache: renders that share it differ in what comes after it."""
        return self._key(self.wanted)

    @property
    def family(self) -> str:
        """What it has in common with separations of the same that give other stems: a stem is the same in all."""
        return self._key(())

    def covering(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The names in the cache, and the stems, of separations that give what is wanted: its own, then larger ones."""
        yield self.key, self.wanted
        others = [name for name in self.outputs if name not in self.wanted]
        few = len(others) <= MAX_OTHERS
        for count in range(1, len(others) + 1) if few else (len(others),):
            for more in combinations(others, count):
                names = tuple(name for name in self.outputs if name in (*self.wanted, *more))
                yield self._key(names), names

    def _key(self, wanted: tuple[str, ...]) -> str:
        return stemcache.key(
            input_sha256=self.input_sha256,
            start_s=self.start_s,
            duration_s=self.duration_s,
            backend=self.backend,
            settings=self.settings.model_dump(),
            identity=self.identity,
            seed=self.context.seed,
            separation_version=SEPARATION_VERSION,
            wanted=wanted,
        )


@dataclass(frozen=True)
class Separated:
    """The mixture and its stems, by the names that hold after the swap.

    `from_cache` says that nothing had to be separated, `swap` what was found where a swap was looked for, as JSON;
    `told` what the separator found.
    """

    mixture: Reader
    stems: Mapping[str, Reader]
    from_cache: bool
    swap: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    told: tuple[Told, ...] = ()


def separate(
    separation: Separation,
    reader: Reader,
    place: Path,
    spools: ExitStack,
    progress: Callable[[float], None],
    shared: Separations | None = None,
) -> Separated:
    """Separate the signal of `reader`; what is put into the folder `place` is closed with `spools`.

    Stems of this separation are taken from `shared` if they are there, and put there if they are not.
    Raises SeparationFailed, AudioFileError and what else the backend raises.
    """
    warnings: list[str] = []
    told: list[Told] = []
    separation = replace(separation, context=replace(separation.context, warn=warnings.append, tell=told.append))
    spool = spools.enter_context(Spool(["mixture"], reader.sample_rate, reader.channels, place))
    for block in reader.blocks():
        spool.write({"mixture": block})
    mixture = spool.reader("mixture")
    if not separation.wanted:
        return Separated(mixture, {}, from_cache=False)
    key = separation.key
    made = _handed_on(separation, shared or {})
    stems, from_cache = (made.stems, True) if made else _cached(separation, key, mixture, progress)
    told += made.told if made else ()
    if stems is None:
        # Stems that are shared must not lie in the staging folder, which is removed after this render.
        folder = place if shared is None else separation.scratch
        spool = Spool(separation.wanted, mixture.sample_rate, mixture.channels, folder)
        if shared is None:
            spools.enter_context(spool)
        for blocks in _blocks(separation, mixture, progress):
            spool.write(blocks)
        stems = {name: spool.reader(name) for name in separation.wanted}
    if shared is not None and not made:
        shared[key] = Given(stems, tuple(told))
    names, verdict = _names(separation.swap, stems, warnings)
    stems = {names.get(name, name): stem for name, stem in stems.items()}
    found = tuple(one.renamed(names) for one in told)
    return Separated(mixture, stems, from_cache, verdict, tuple(warnings), found)


def _handed_on(separation: Separation, shared: Mapping[str, Given]) -> Given | None:
    """What an earlier render of the same separation, or of one that gives more, hands on."""
    for key, _ in separation.covering() if shared else ():
        if given := shared.get(key):
            return replace(given, stems={name: given.stems[name] for name in separation.wanted})
    return None


def _cached(
    separation: Separation, key: str, mixture: Reader, progress: Callable[[float], None]
) -> tuple[Mapping[str, Reader] | None, bool]:
    """The stems in the cache, and whether they were there before; None where the cache is not used or unusable."""
    if not separation.use_cache or backend_named(separation.backend).quick:
        return None, False
    store = stemcache.locate()
    shape = stemcache.Shape(separation.wanted, mixture.sample_rate, mixture.channels, mixture.frames)
    try:
        for name, there in separation.covering():
            if stems := stemcache.get(store, name, replace(shape, names=there)):
                return {wanted: stems[wanted] for wanted in separation.wanted}, True
        return stemcache.put(store, key, _blocks(separation, mixture, progress), shape), False
    except stemcache.Unusable as error:
        separation.context.warn(f"the stems are not kept for the next render: {error}")
        return None, False


def _blocks(separation: Separation, mixture: Reader, progress: Callable[[float], None]) -> Iterator[dict[str, Block]]:
    """The separator's blocks, from when the device is free."""
    context = replace(separation.context, progress=progress, member=partial(_member, separation, mixture))
    with turn(separation.identity.get("device")):
        yield from stem_blocks(mixture, separation.backend, separation.settings, context)


def _member(
    separation: Separation, mixture: Reader, backend: str, settings: BackendSettings, context: Context
) -> Mapping[str, Reader]:
    """The stems that another backend gives of the same mixture: a separation of its own in the cache."""
    module = backend_named(backend).load()
    own = replace(
        separation,
        backend=backend,
        settings=settings,
        context=context,
        identity=module.identity(settings, context),
        outputs=module.stem_names(settings, context.models),
    )
    stems, _ = _cached(own, own.key, mixture, context.progress)
    if stems is None:
        shape = stemcache.Shape(own.wanted, mixture.sample_rate, mixture.channels, mixture.frames)
        stems = stemcache.spool(_blocks(own, mixture, context.progress), shape)
    return stems


def _names(
    swap: Literal["auto"] | Pairs, stems: Mapping[str, Reader], warnings: list[str]
) -> tuple[Mapping[str, str], Mapping[str, Any] | None]:
    """New names of the stems that are renamed, and the verdict on a swap as JSON where one is looked for."""
    if swap != "auto":
        return exchanged(swap), None
    verdict = swapped(stems)
    if verdict.swapped is None:
        warnings.append(
            f"whether bass and {verdict.partner} are swapped is unclear, so they were left: {verdict.reason}"
        )
    if not verdict.swapped:
        return {}, verdict.as_dict()
    warnings.append(f"bass and {verdict.partner} were swapped back: {verdict.reason}")
    return exchanged([("bass", verdict.partner)]), verdict.as_dict()


@contextmanager
def turn(device: str | None) -> Iterator[None]:
    """Wait for the device: a GPU runs one of the user's separations at a time, a CPU any number."""
    if device in (None, "cpu"):
        yield
        return
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / f"{device}.lock"):
        yield


def loading_meters(progress: Callable[[float], None]) -> Callable[[float], None]:
    """`progress` that on its first call starts to import scipy.signal in a thread: that takes a second.

    By then the separator computes outside Python's interpreter lock; earlier the import would slow it down.
    """
    loading = threading.Thread(target=importlib.import_module, args=("scipy.signal",))

    def report(fraction: float) -> None:
        if loading.ident is None:
            find_blas()
            loading.start()
        progress(fraction)

    return report
