"""The small files that gbsep keeps or is given, damaged, forged or no file at all, and what reads them.

Configuration (defaults.json, presets), decisions (review.json, batch.json, the log, projects of DAWs), caches (entries
of stems, hashes, scans of plug-ins, speeds), weights (records, bags, descriptions, the header of the compact network),
saved states of plug-ins, and pools and states of a training.

Each is read, refused with one of gbsep's own errors, or taken for not being there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from fuzz_damage import TEXTS, VALUES, cleared, damaged, forged, put_special

import gbsep
from gbsep import batch, rendering
from gbsep.audio import Audio
from gbsep.batch import history
from gbsep.batch import report as batch_report
from gbsep.cli import main
from gbsep.errors import PluginError
from gbsep.models.find import Found, notice
from gbsep.models.verify import record_of, state_dir, trust, verify
from gbsep.plugins import host, scan
from gbsep.plugins.worker import state
from gbsep.plugins.worker.parameters import PluginParameter
from gbsep.plugins.worker.vst3 import ClassRow
from gbsep.preset.load import load_preset
from gbsep.preset.names import preset_names
from gbsep.rendering import Options
from gbsep.report import collect
from gbsep.report.log import WORDS, added, numbers_of, write_log
from gbsep.report.page import song_model
from gbsep.report.spectrogram import mel_db, mel_hz
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.compact.weights import is_compact
from gbsep.separation.demucs.weights import read_bag
from gbsep.separation.openunmix import backend as openunmix
from gbsep.separation.weights import find, own_models
from gbsep.shelf import batch as batch_file
from gbsep.shelf import folder as outputs
from gbsep.shelf import projects, remote, review
from gbsep.shelf.stems import find_stems, renders_in
from gbsep.store import stemcache as cache
from gbsep.store.folders import cache_folder, config_folder, state_folder
from gbsep.store.hashes import remembered_hash

RATE = 8000
CLASS_ID = "0123456789ABCDEF0123456789ABCDEF"

# Now, before anything is guarded: numba keeps beside librosa what it compiles for it.
mel_db(Audio(np.zeros((1, RATE)), RATE).reader(), 4, 4)
mel_hz(RATE, 4)


@dataclass(frozen=True)
class Part:
    """A file, what it holds when it is right, and what reads it; `special` says whether it may be no file of its own.

    That is left to others where a library opens the file by its name.
    """

    path: Path
    good: bytes
    read: Callable[[], object]
    share: int = 4
    special: bool = True


def typed(*words: str) -> str:
    """What the command writes to stdout. AssertionError where it met something that it did not foresee."""
    out, told = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
        try:
            main(list(words))
        except SystemExit as end:
            code = end.code
    if code not in (0, 1, 2) or "please report" in told.getvalue():
        raise AssertionError(f"gbsep {' '.join(words)}: exit code {code}\n{told.getvalue()}")
    return out.getvalue()


def parts(place: Path) -> list[Part]:
    """All files that are tried; what they stand beside is made in `place`."""
    time_s = np.arange(RATE // 2) / RATE
    samples = np.stack([0.3 * np.sin(500 * time_s), 0.2 * np.sin(9000 * time_s)]).astype(np.float32)
    song = place / "song.wav"
    gbsep.write(song, Audio(samples, RATE))
    out = place / "out"
    gbsep.render(song, "exp002", out, use_cache=False)
    folder = out / "song" / "exp002"
    return [
        *_configuration(song),
        *_decisions(song, out, folder),
        *_caches(place, song),
        *_weights(place),
        *_training(place),
    ]


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode()


def _configuration(song: Path) -> Iterator[Part]:
    config = config_folder()
    assert config is not None
    defaults = {
        "render": {"preset": ["exp002"], "out": "stems", "jobs": 2, "set": ["separate.cutoff_hz=250"], "start": 0.1},
        "session": {"format": "reaper"},
        "models": {"list": {"json": True}},
        "cache": {},
    }

    def command() -> None:
        typed("render", str(song), "--dry-run")
        typed("models", "list")

    yield Part(config / "defaults.json", _json(defaults), command, 8)
    own = config / "presets" / "own.json"
    document = dict(load_preset("exp002").document)

    def presets() -> None:
        preset_names()
        typed("presets", "list")
        typed("presets", "validate", str(own))
        rendering.plan(song, load_preset("own"), Options(Path("stems"), dry_run=True))

    yield Part(own, _json({**document, "name": "own"}), presets)


def _decisions(song: Path, out: Path, folder: Path) -> Iterator[Part]:
    plan = Options(out, use_cache=False, dry_run=True)
    reviewed = {
        "schema_version": 1,
        "status": "accepted",
        "preset": "exp002",
        "swap": {"exp002": [["bass", "guitar"]]},
        "notes": [{"time_s": 1.0, "text": "thin", "preset": "exp002", "stem": "bass", "written_at": "2025-01-14"}],
    }

    def songs() -> None:
        for one in collect(out):
            json.dumps(song_model(one, lambda path: path.name))

    def decided() -> None:
        with contextlib.suppress(gbsep.GbsepError):
            songs()
        review.load(folder.parent)
        rendering.chosen_preset(out, "song")
        batch.plan([song], options=plan)

    yield Part(folder.parent / review.FILE, _json(reviewed), decided)
    row = {"input": "a.wav", "preset": "exp002", "status": "failed", "track": "a", "error": "no"}

    def batched() -> None:
        batch_file.read(out)
        songs()
        batch_report.check(batch.plan([song], ["exp002"], plan))

    report = {"written_by": batch_file.WRITTEN_BY, "renders": [row]}
    yield Part(out / batch_file.REPORT, _json(report), batched)

    def recorded() -> None:
        renders_in(out)
        with contextlib.suppress(gbsep.GbsepError):
            find_stems(folder)
        songs()
        batch.plan([song], ["exp002"], plan)

    yield Part(folder / outputs.RECORD, (folder / outputs.RECORD).read_bytes(), recorded)
    log = out.parent / "log.md"
    write_log([out], log)
    row_of = ["**001**", "24.01.02", "x", "song", "-"]

    def logged() -> None:
        write_log([out], log)
        text = log.read_text(encoding="utf-8")
        numbers_of(added(text, [row_of], ["### Exp 001"], WORDS["ko"]))

    yield Part(log, log.read_bytes(), logged, 2)
    for kind in ("reaper", "dawproject"):
        gbsep.write_sessions(out, format=kind)
    written = [path for path in out.rglob("*") if path.suffix.lower() in projects.FORMATS.values()]
    assert len(written) == 2
    for project in written:
        yield Part(
            project, project.read_bytes(), lambda: projects.referring(folder, ["bass.wav", "guitar.wav"], out), 2
        )


def _caches(place: Path, song: Path) -> Iterator[Part]:
    store = cache.locate(place / "stems", "1 MB")
    shape = cache.Shape(("bass", "guitar"), RATE, 1, 100)
    key = "0" * 64
    block = {name: np.zeros((1, 100), np.float32) for name in shape.names}
    cache.put(store, key, [block], shape)
    entry = store.folder / "entries" / key

    def stems() -> None:
        for wanted in (None, shape):
            found = cache.get(store, key, wanted)
            for reader in (found or {}).values():
                assert reader.read().samples.shape == (reader.channels, reader.frames)
        cache.usage(store)
        cache.put(store, key, [block], shape)
        cache.clear(store)

    for name in ("manifest.json", "0.f32"):
        yield Part(entry / name, (entry / name).read_bytes(), stems)
    remembered_hash(song, store.folder)
    true = hashlib.sha256(song.read_bytes()).hexdigest()
    known = store.folder / "hashes" / f"{hashlib.sha256(os.fsencode(song)).hexdigest()[:32]}.json"

    def hashes() -> None:
        status = song.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        if remembered_hash(song, store.folder) != true and str(stamp)[1:-1] not in known.read_text():
            raise AssertionError("a hash of what was not seen")
        cache.clear(store)

    yield Part(known, _json({"stamp": [1, 2, 3, 4], "sha256": true}), hashes)
    yield _scan(place)

    def speeds() -> None:
        planned = batch.plan([song], ["exp002"], Options(place / "timed", use_cache=False))
        seconds, _ = history.estimate(planned)
        assert seconds >= 0
        history.learn(planned, [])

    yield Part(state_folder() / "speeds.json", _json({"after exp002": 0.1, '["crossover", {}, 1]': 2}), speeds)
    copy = cache_folder() / "downloads" / ("0" * 32) / "song.wav"
    yield Part(copy, b"RIFF", lambda: (remote.sweep(), remote.usage(), remote.clear()), 1)


def _scan(place: Path) -> Part:
    """What was found in a plug-in; the plug-in itself is never loaded, and lists two."""
    file = place / "plugins" / "Amp.vst3"
    file.parent.mkdir()
    file.write_bytes(b"\x7fELF" + b"\0" * 60)
    rows = [ClassRow(name, "Maker", "1.0", "Fx", CLASS_ID) for name in ("Amp", "Cab")]
    parameter = PluginParameter("drive", "dB", 0.0, 1.0, ("off", True), 0.5, (0.0, 0.5, 1.0))

    def names(path: Path, load_timeout_s: float | None = None) -> list[ClassRow]:
        return rows

    def examine(path: Path, wanted: Any, load_timeout_s: float | None = None) -> Iterator[scan.PluginInfo]:
        for name in wanted:
            about = scan.PluginInfo(name, path, "VST3", "Maker", "1.0", "Fx", CLASS_ID, ((2, 2),))
            yield scan.replace(about, parameters=(parameter,))

    module = cast(Any, scan)
    module.names, module.examine, module.folders = names, examine, lambda: [file.parent]
    host.plugins()
    kept = scan._entry_file(file)

    def plugins() -> None:
        typed("plugins", "list")
        typed("plugins", "list", "--json")
        typed("plugins", "show", "Amp")
        with contextlib.suppress(PluginError):
            asdict(host.find("Cab"))
        host.plugins(retry=True)

    return Part(kept, kept.read_bytes(), plugins)


def _weights(place: Path) -> Iterator[Part]:
    folder = place / "models" / "own"
    folder.mkdir(parents=True)
    weights = folder / "own.th"
    weights.write_bytes(b"weights")
    verify(weights)
    known = record_of(weights)
    yield Part(known, known.read_bytes(), lambda: (verify(weights), trust(weights)))
    bag = folder / "bag.yaml"

    def bags() -> None:
        own_models(folder.parent)
        with contextlib.suppress(gbsep.GbsepError):
            find("bag", "demucs", folder.parent, download=False)
        read_bag(bag, "bag")

    told = b"models: [own, other]\nweights:\n- [1.0, 0.5, 1, 1]\n- [0, 1, 1, 1]\nsegment: 44\n"
    yield Part(bag, told, bags, 8)
    separator = folder / "separator.json"
    found = cast(Found, SimpleNamespace(files=(weights,)))
    about = {"sample_rate": 44100, "nfft": 4096, "nhop": 1024, "nb_channels": 2}
    yield Part(separator, _json(about), lambda: openunmix._transform(found))
    network = folder / "small.safetensors"
    content = (Path(compact.__file__).parent / "compact.safetensors").read_bytes()

    def networks() -> None:
        is_compact(network)
        own_models(folder.parent)
        with contextlib.suppress(gbsep.GbsepError):
            find("small", "compact", folder.parent, download=False)
        compact_weights.load(network)

    yield Part(network, content, networks, 1, special=False)
    licence = state_dir() / "own.licence"
    own = Found("own", "demucs", "MIT", (weights,), ("0" * 64,))
    yield Part(licence, b"MIT", lambda: notice(own), 1)
    for form, suffix in (("vstpreset", ".vstpreset"), ("raw", ".state")):
        saved = place / f"amp{suffix}"

        def states(saved: Path = saved) -> None:
            state.unpack(state.read_state(saved.name, saved.parent), CLASS_ID, "1.0")

        yield Part(saved, state.pack(form, (b"component", b"controller"), CLASS_ID, "1.0"), states)


def _training(place: Path) -> Iterator[Part]:
    from gbsep.train import pool

    folder = place / "pool"
    folder.mkdir()
    shard = folder / "0000.npy"
    np.save(shard, np.zeros((2, 3, 50), np.int16))
    about = {"seed": 0, "number": 0, "sample_rate": 22050, "players": [["a", "b"], ["a", "c"]]}
    (folder / "0000.json").write_bytes(_json(about))

    def takes() -> None:
        found = pool.load([folder], 22050)
        assert found.stems.shape[0] == len(found.players)

    yield Part(shard, shard.read_bytes(), takes, 2, special=False)
    yield Part(folder / "0000.json", _json(about), takes, 2)
    try:
        import torch

        from gbsep.train import loop
    except ImportError:
        return
    job = loop.Job({"seed": 1}, {"a": torch.zeros(3)}, cast(Any, None), cast(Any, None))
    saved = place / "run.state"
    loop.save(loop.begin(job), saved)
    yield Part(saved, saved.read_bytes(), lambda: (loop.averages(saved), loop.resume(saved, job)), 2, special=False)


def prepare(place: Path) -> Callable[[random.Random], Iterator[tuple[str, Callable[[], object]]]]:
    """What draws a file, and puts something else in its place."""
    made = parts(place)
    shares = [part.share for part in made]
    kept = place.with_name(f"{place.name}.kept")
    shutil.copytree(place, kept, symlinks=True)

    def draw(chance: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
        part = chance.choices(made, shares)[0]
        part.path.parent.mkdir(parents=True, exist_ok=True)
        cleared(part.path)
        if part.special and chance.random() < 0.08:
            told = put_special(part.path, chance)
        else:
            content = another(part.good, chance)
            told = repr(content[:1000])
            part.path.write_bytes(content)
        try:
            yield f"{part.path.name}: {told}", part.read
        finally:
            cleared(part.path)
            if place in part.path.parents:
                _restore(kept / part.path.relative_to(place).parts[0], place / part.path.relative_to(place).parts[0])
            else:
                for name in ("cache", "config", "state"):
                    shutil.rmtree(os.environ[f"GBSEP_{name.upper()}"], ignore_errors=True)

    return draw


def _restore(kept: Path, there: Path) -> None:
    cleared(there) if not there.is_dir() else shutil.rmtree(there)
    if kept.is_dir():
        shutil.copytree(kept, there, symlinks=True)
    elif kept.exists():
        shutil.copy2(kept, there)


def another(good: bytes, chance: random.Random) -> bytes:
    """What stands in place of a file's content: forged where it is JSON, damaged, or nonsense."""
    roll = chance.random()
    if roll < 0.12:
        return chance.choice(TEXTS)
    if roll < 0.2:
        return json.dumps(chance.choice(VALUES)).encode()
    if roll < 0.65:
        with contextlib.suppress(ValueError):
            return json.dumps(forged(json.loads(good), chance)).encode()
        with contextlib.suppress(ImportError, ValueError):
            import yaml

            if good.startswith(b"models:"):
                return yaml.safe_dump(forged(yaml.safe_load(good), chance)).encode("utf-8", "surrogatepass")
    return damaged(good, chance)
