"""The stem cache, also with several processes at once, killed ones, and damaged files."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gbsep.audio import join
from gbsep.errors import AudioFileError, OutputError, ParameterError, SeparationFailed
from gbsep.store import stemcache as stem_cache
from gbsep.store.hashes import remembered_hash
from gbsep.store.stemcache import Cache, Shape, Usage

SPAWN = multiprocessing.get_context("spawn")
SHAPE = Shape(("bass", "other"), 44100, 2, 10_000)
ENTRY_BYTES = 2 * SHAPE.bytes_per_stem
PARTS = {
    "input_sha256": "ab" * 32,
    "start_s": 0.0,
    "duration_s": None,
    "backend": "demucs",
    "settings": {"model": "htdemucs", "shifts": 1},
    "identity": {"weights": "cd" * 32, "threads": 2},
    "seed": 0,
    "separation_version": 1,
    "wanted": ("bass", "other"),
}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", 10**9)


def hexed(name):
    """A name as entries have it."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def stems_of(seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(shape.channels, shape.frames)).astype(np.float32) for name in shape.names}


def blocks_of(stems, block_frames=3000):
    frames = next(iter(stems.values())).shape[1]
    for first in range(0, frames, block_frames):
        yield {name: stem[:, first : first + block_frames] for name, stem in stems.items()}


def put(cache, name, seed=None, shape=SHAPE):
    return stem_cache.put(cache, hexed(name), blocks_of(stems_of(name if seed is None else seed, shape)), shape)


def keep(cache, *numbers):
    for number in numbers:
        stem_cache.put(cache, hexed(number), blocks_of(stems_of(number)), SHAPE)


def is_there(cache, number):
    stems = stem_cache.get(cache, hexed(number))
    if stems is None:
        return False
    expected = stems_of(number)
    for name in SHAPE.names:
        np.testing.assert_array_equal(join(stems[name].blocks(777)), expected[name])
    return True


def files_of(cache):
    return sorted(path for path in cache.folder.rglob("*") if path.is_file() and path.name != ".lock")


# --------------------------------------------------------------------------------------------------- writing, reading


@given(
    channels=st.integers(1, 2),
    frames=st.integers(1, 5000),
    block_frames=st.integers(1, 3000),
    read_frames=st.integers(1, 6000),
    kept=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_put_is_read_back(cache, channels, frames, block_frames, read_frames, kept):
    shape = Shape(("bass", "../guitar"), 48000, channels, frames)
    stems = stems_of(frames, shape)
    if kept:
        written = stem_cache.put(cache, hexed("a"), blocks_of(stems, block_frames), shape)
        read = stem_cache.get(cache, hexed("a"))
        stem_cache.clear(cache)
    else:
        written = read = stem_cache.spool(blocks_of(stems, block_frames), shape)
    for name, stem in stems.items():
        for reader in (written[name], read[name]):
            assert (reader.sample_rate, reader.channels, reader.frames) == (48000, channels, frames)
            blocks = list(reader.blocks(read_frames))
            assert all(block.dtype == np.float32 and 0 < block.shape[1] <= read_frames for block in blocks)
            np.testing.assert_array_equal(join(blocks), stem)


def test_readers_start_over_and_take_turns(cache):
    put(cache, "1", 1)
    reader = stem_cache.get(cache, hexed("1"))["bass"]
    first, second = reader.blocks(1000), reader.blocks(1500)
    next(first)
    expected = stems_of(1)["bass"]
    np.testing.assert_array_equal(next(second), expected[:, :1500])
    np.testing.assert_array_equal(next(first), expected[:, 1000:2000])
    np.testing.assert_array_equal(reader.read().samples, expected)


def test_an_iterator_outlives_its_reader(cache):
    put(cache, "1", 1)
    blocks = stem_cache.get(cache, hexed("1"))["bass"].blocks(1000)
    np.testing.assert_array_equal(join(blocks), stems_of(1)["bass"])


def test_nothing_there_is_a_miss_and_makes_no_folder(cache):
    assert stem_cache.get(cache, hexed("1")) is None
    assert stem_cache.usage(cache) == stem_cache.clear(cache) == Usage(0, 0)
    assert not cache.folder.exists()


# ---------------------------------------------------------------------------------------------------------------- key


def test_the_key_is_the_same_for_the_same_parts():
    same = {**PARTS, "settings": {"shifts": 1, "model": "htdemucs"}, "wanted": ["other", "bass"], "start_s": 0}
    assert stem_cache.key(**PARTS) == stem_cache.key(**same)
    assert len(stem_cache.key(**PARTS)) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"input_sha256": "ac" * 32},
        {"start_s": 0.5},
        {"duration_s": 10.0},
        {"backend": "openunmix"},
        {"settings": {"model": "htdemucs", "shifts": 2}},
        {"identity": {"weights": "cd" * 32, "threads": 1}},
        {"seed": 1},
        {"separation_version": 2},
        {"wanted": ("bass",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_part_changes_the_key(change):
    assert stem_cache.key(**{**PARTS, **change}) != stem_cache.key(**PARTS)


# ----------------------------------------------------------------------------------------------------------- size cap


def test_the_least_recently_used_goes_first(cache):
    cache = Cache(cache.folder, 3 * ENTRY_BYTES + 3000)
    keep(cache, 1, 2, 3)
    assert is_there(cache, 1)
    keep(cache, 4)
    assert [number for number in (1, 2, 3, 4) if is_there(cache, number)] == [1, 3, 4]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12), st.integers(0, 4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_cap_holds_and_the_last_used_stay(cache, steps, capacity):
    cache = Cache(cache.folder, capacity * (ENTRY_BYTES + 300))
    stem_cache.clear(cache)
    model = []
    for writing, number in steps:
        if writing:
            keep(cache, number)
        assert is_there(cache, number) == (number in model or (writing and capacity > 0))
        if number in model or (writing and capacity > 0):
            model = [*(other for other in model if other != number), number][-capacity:]
        assert stem_cache.usage(cache).bytes <= cache.limit_bytes
    assert {number for number in range(6) if is_there(cache, number)} == set(model)
    stem_cache.clear(cache)


def test_what_is_larger_than_the_cap_is_read_but_not_kept(cache):
    cache = Cache(cache.folder, ENTRY_BYTES - 1)
    np.testing.assert_array_equal(put(cache, "1", 1)["bass"].read().samples, stems_of(1)["bass"])
    assert not cache.folder.exists()


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed on Windows")
def test_an_evicted_entry_is_read_to_its_end(cache):
    put(cache, "1", 1)
    reader = stem_cache.get(cache, hexed("1"))["bass"]
    stem_cache.clear(cache)
    assert stem_cache.get(cache, hexed("1")) is None
    np.testing.assert_array_equal(reader.read().samples, stems_of(1)["bass"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [(5, 5), ("5", 5), ("10 GB", 10**10), ("1.5kb", 1500), ("2TB", 2 * 10**12), ("7 mb", 7 * 10**6), ("0", 0)],
)
def test_sizes_are_told_in_bytes_or_units(size, expected, tmp_path):
    assert stem_cache.locate(tmp_path, size).limit_bytes == expected


@pytest.mark.parametrize("size", ["", " ", "-1", "many", "1 GiB", "nan", "1e9", -5, "GB"])
def test_sizes_that_are_none_are_refused(size, tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="cache size"):
        stem_cache.locate(tmp_path, size)


def test_environment_places_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GBSEP_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("GBSEP_CACHE_SIZE", "3 MB")
    assert stem_cache.locate() == Cache(tmp_path / "here", 3_000_000)
    assert stem_cache.locate(tmp_path / "there", 7) == Cache(tmp_path / "there", 7)
    monkeypatch.delenv("GBSEP_CACHE_SIZE")
    assert stem_cache.locate().limit_bytes == 10 * 10**9


# ------------------------------------------------------------------------------------------------ damage, bad writers


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: truncate(entry / "0.f32"),
        lambda entry: flip(entry / "1.f32"),
        lambda entry: (entry / "1.f32").unlink(),
        lambda entry: (entry / "manifest.json").unlink(),
        lambda entry: (entry / "manifest.json").write_text(""),
        lambda entry: (entry / "manifest.json").write_text("[]"),
        lambda entry: (entry / "manifest.json").write_text('{"format": 99}'),
        lambda entry: (entry / "manifest.json").write_text(
            (entry / "manifest.json").read_text().replace("10000", "1000000000000")
        ),
    ],
    ids=["truncated", "flipped bit", "stem gone", "manifest gone", "empty", "no manifest", "other format", "absurd"],
)
def test_a_damaged_entry_is_missed_and_made_anew(cache, damage):
    keep(cache, 1, 2)
    damage(cache.folder / "entries" / hexed(1))
    assert stem_cache.get(cache, hexed("1")) is None
    assert not (cache.folder / "entries" / hexed(1)).exists()
    keep(cache, 1)
    assert is_there(cache, 1)
    assert is_there(cache, 2)


def spoilt(change):
    blocks = list(blocks_of(stems_of(1)))
    change(blocks)
    return blocks


def with_nan(blocks):
    blocks[1]["other"] = np.full((2, 3000), np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda blocks: blocks.pop(), "9000 frames of 10000"),
        (lambda blocks: blocks.append(blocks[0]), "13000 frames of 10000"),
        (lambda blocks: blocks[2].pop("other"), "'other' brought nothing"),
        (lambda blocks: blocks[2].update(other=np.zeros((1, 3000), np.float32)), r"'other' brought \(1, 3000\)"),
        (with_nan, "'other': 6000 samples are NaN or infinite, the first at frame 3000"),
    ],
)
@pytest.mark.parametrize(
    "store",
    [lambda cache, *stems: stem_cache.put(cache, hexed("1"), *stems), lambda _, *stems: stem_cache.spool(*stems)],
    ids=["put", "spool"],
)
def test_separations_gone_wrong_are_not_kept(cache, change, message, store):
    with pytest.raises(SeparationFailed, match=message):
        store(cache, spoilt(change), SHAPE)
    assert files_of(cache) == []


def test_an_error_while_separating_passes_through_and_leaves_nothing(cache):
    def blocks():
        yield from list(blocks_of(stems_of(1)))[:2]
        raise OSError("the input went away")

    with pytest.raises(OSError, match="the input went away"):
        stem_cache.put(cache, hexed("1"), blocks(), SHAPE)
    assert files_of(cache) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.*GBSEP_CACHE"):
        put(Cache(tmp_path / "file" / "cache", 10**9), "1", 1)


def test_clear_says_what_is_gone(cache):
    keep(cache, 1, 2)
    before = stem_cache.usage(cache)
    assert before.entries == 2
    assert 2 * ENTRY_BYTES < before.bytes < 2 * ENTRY_BYTES + 1000
    assert stem_cache.clear(cache) == before
    assert stem_cache.usage(cache) == Usage(0, 0)
    assert files_of(cache) == []


# -------------------------------------------------------------------------------------------------- several processes


def build_slowly(folder, name, started, go):
    """Build an entry that stops half way until told to go on."""

    def blocks():
        for number, block in enumerate(blocks_of(stems_of(int(name)))):
            if number == 2:
                started.set()
                go.wait(60)
            yield block

    stems = stem_cache.put(Cache(Path(folder), 10**9), hexed(name), blocks(), SHAPE)
    np.testing.assert_array_equal(stems["bass"].read().samples, stems_of(int(name))["bass"])


def use_at_random(folder, limit_bytes, seed, failures):
    cache = Cache(Path(folder), limit_bytes)
    rng = np.random.default_rng(seed)
    try:
        for number in rng.integers(0, 6, 30):
            stems = stem_cache.get(cache, hexed(number))
            if stems is None:
                stems = stem_cache.put(cache, hexed(number), blocks_of(stems_of(number)), SHAPE)
            for name, expected in stems_of(number).items():
                np.testing.assert_array_equal(stems[name].read().samples, expected)
            if rng.random() < 0.1:
                stem_cache.clear(cache)
    except BaseException as error:
        failures.put(repr(error))
        raise


def test_two_builders_of_one_entry_both_finish(cache):
    events = [(SPAWN.Event(), SPAWN.Event()) for _ in range(2)]
    builders = [SPAWN.Process(target=build_slowly, args=(cache.folder, "1", *pair)) for pair in events]
    for builder in builders:
        builder.start()
    for started, _ in events:
        assert started.wait(60)
    assert stem_cache.get(cache, hexed("1")) is None
    assert stem_cache.clear(cache) == Usage(0, 0)  # and takes nothing from under a builder that lives
    for _, go in events:
        go.set()
    for builder in builders:
        builder.join(60)
        assert builder.exitcode == 0
    assert is_there(cache, 1)
    assert stem_cache.usage(cache).entries == 1
    assert list((cache.folder / "building").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_builder_leaves_nothing_to_see_and_is_swept(cache):
    started, go = SPAWN.Event(), SPAWN.Event()
    builder = SPAWN.Process(target=build_slowly, args=(cache.folder, "1", started, go))
    builder.start()
    assert started.wait(60)
    os.kill(builder.pid, signal.SIGKILL)
    builder.join(60)
    assert stem_cache.get(cache, hexed("1")) is None
    assert stem_cache.usage(cache) == Usage(0, 0)
    assert list((cache.folder / "building").iterdir()) != []
    keep(cache, 2)
    assert list((cache.folder / "building").iterdir()) == []
    assert is_there(cache, 2)


def test_many_processes_read_write_evict_and_clear(cache):
    limit_bytes = 3 * (ENTRY_BYTES + 300)
    failures = SPAWN.Queue()
    users = [SPAWN.Process(target=use_at_random, args=(cache.folder, limit_bytes, seed, failures)) for seed in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join(120)
    assert failures.empty(), failures.get()
    assert [user.exitcode for user in users] == [0] * 4
    assert stem_cache.usage(cache).bytes <= limit_bytes
    assert list((cache.folder / "building").iterdir()) == []


# ----------------------------------------------------------------------------------------------------- content hashes


@pytest.fixture
def recording(tmp_path):
    """A file as it was an hour ago: times of a moment ago prove nothing."""
    path = tmp_path / "recording.wav"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def later(monkeypatch):
    now_ns = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: now_ns() + 3600 * 10**9)


ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_the_hash_is_sha256(cache, recording):
    assert remembered_hash(recording, cache.folder) == ABC


def test_a_hash_is_remembered(cache, recording, later):
    assert remembered_hash(recording, cache.folder) == ABC
    (record,) = files_of(cache)
    record.write_text(record.read_text().replace(ABC, hexed("from memory")))
    assert remembered_hash(recording, cache.folder) == hexed("from memory")
    assert remembered_hash(str(recording), cache.folder) == hexed("from memory")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"abcd"),
        lambda path: (path.write_bytes(b"abd"), os.utime(path, ns=(1, 1))),
        lambda path: (path.with_suffix(".new").write_bytes(b"abd"), path.with_suffix(".new").replace(path)),
    ],
    ids=["size", "time", "another file"],
)
def test_a_changed_file_is_hashed_again(cache, recording, later, change):
    remembered_hash(recording, cache.folder)
    change(recording)
    assert remembered_hash(recording, cache.folder) != ABC


def test_a_file_of_a_moment_ago_is_not_trusted(cache, recording):
    """Rewritten within the clock's tick it would have the same size and times."""
    remembered_hash(recording, cache.folder)
    assert files_of(cache) == []


def test_damaged_memory_is_no_memory(cache, recording, later):
    remembered_hash(recording, cache.folder)
    (record,) = files_of(cache)
    for content in ("", "[]", "{}", json.dumps({"stamp": None, "sha256": "no"}), "\0\0"):
        record.write_text(content)
        assert remembered_hash(recording, cache.folder) == ABC


def test_memory_that_cannot_be_written_does_no_harm(recording, later, tmp_path):
    (tmp_path / "file").touch()
    assert remembered_hash(recording, tmp_path / "file" / "cache") == ABC


@pytest.mark.parametrize("name", ["gone.wav", "."])
def test_what_cannot_be_read_is_an_error(cache, tmp_path, name):
    with pytest.raises(AudioFileError, match="cannot be read"):
        remembered_hash(tmp_path / name, cache.folder)
