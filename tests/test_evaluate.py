"""Figures against their definitions, and against museval and fast_bss_eval on real stems."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gbsep
from gbsep.audio import Audio, Reader
from gbsep.cli import cli
from gbsep.errors import AudioError, AudioFileError, OutputError, ParameterError
from gbsep.io.read import open_reader, read
from gbsep.io.resample import resample
from gbsep.io.write import write
from gbsep.measure.evaluate import Score, evaluate, sdr
from gbsep.measure.shift import LARGEST_SHIFT_S, find_shift
from gbsep.shelf.measured import evaluate_folder

RATE = 22050


def noise(rng: np.random.Generator, seconds: float = 3.0, channels: int = 2, gain: float = 0.1) -> np.ndarray:
    return (gain * rng.standard_normal((channels, round(seconds * RATE)))).astype(np.float32)


def scored(reference: np.ndarray, estimate: np.ndarray, other: np.ndarray | None = None) -> Score:
    references = {"bass": Audio(reference, RATE).reader()}
    if other is not None:
        references["guitar"] = Audio(other, RATE).reader()
    return evaluate({"bass": Audio(estimate, RATE).reader()}, references)["bass"]


# ---------------------------------------------------------------------------------------------------------------- sdr


def test_noise_at_a_known_level(rng: np.random.Generator) -> None:
    truth, noise = rng.standard_normal((2, 2, 50000))
    for level_db in (-40.0, -10.0, 6.0):
        scaled = noise * np.linalg.norm(truth) / np.linalg.norm(noise) * 10 ** (level_db / 20)
        assert sdr(Audio(truth, 44100), Audio(truth + scaled, 44100)) == pytest.approx(-level_db, abs=0.001)


def test_the_edges() -> None:
    silence, tone = Audio(np.zeros(10), 8000), Audio(np.ones(10), 8000)
    assert sdr(tone, tone) == math.inf
    assert sdr(silence, tone) == -math.inf
    assert sdr(tone, silence) == pytest.approx(0.0)
    with pytest.raises(AudioError, match="cannot be compared with"):
        sdr(tone, Audio(np.ones(11), 8000))


# ------------------------------------------------------------------------------------------- against other libraries


@pytest.fixture(scope="module")
def separated(data: Path) -> list[tuple[dict[str, Audio], dict[str, Audio]]]:
    """(true stems, estimates) of ten seconds of each jam: a crossover leaks both ways and loses nothing."""
    pairs = []
    for jam in sorted(path for path in data.glob("jams/*") if path.is_dir()):
        truth = {name: read(jam / f"{name}.flac", 5.0, 10.3) for name in ("bass", "guitar")}
        mixture = Audio(truth["bass"].samples + truth["guitar"].samples, truth["bass"].sample_rate)
        pairs.append((truth, dict(gbsep.separate(mixture, "crossover", cutoff_hz=200.0).stems)))
    assert pairs
    return pairs


def readers(stems: dict[str, Audio]) -> dict[str, Reader]:
    return {name: stem.reader() for name, stem in stems.items()}


@pytest.mark.filterwarnings("ignore")
def test_bsseval_v4_is_that_of_museval(separated: list[tuple[dict[str, Audio], dict[str, Audio]]]) -> None:
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("museval needs ffmpeg and ffprobe on the PATH (Debian package ffmpeg)")
    museval = pytest.importorskip("museval")
    for truth, estimates in separated[:2]:
        ours = evaluate(readers(estimates), readers(truth))
        theirs, *_ = museval.evaluate(
            np.stack([truth[name].samples.T for name in truth]), np.stack([estimates[name].samples.T for name in truth])
        )
        for name, row in zip(truth, theirs, strict=True):
            assert ours[name].sdr_bsseval_v4 == pytest.approx(np.nanmedian(row), abs=0.01)
            assert ours[name].over_time["sdr"][: len(row)] == pytest.approx(tuple(row), abs=0.01)


def test_si_sdr_is_that_of_fast_bss_eval(separated: list[tuple[dict[str, Audio], dict[str, Audio]]]) -> None:
    fast_bss_eval = pytest.importorskip("fast_bss_eval")
    for truth, estimates in separated:
        ours = evaluate(readers(estimates), readers(truth))
        for name in truth:
            flat = (one[name].samples.astype(np.float64).reshape(1, -1) for one in (truth, estimates))
            assert ours[name].si_sdr == pytest.approx(float(fast_bss_eval.si_sdr(*flat)[0]), abs=0.01)


def test_sdr_of_the_whole_track_is_its_definition(separated: list[tuple[dict[str, Audio], dict[str, Audio]]]) -> None:
    for truth, estimates in separated:
        ours = evaluate(readers(estimates), readers(truth))
        for name in truth:
            assert ours[name].sdr == pytest.approx(sdr(truth[name], estimates[name]), abs=1e-4)


# -------------------------------------------------------------------------------------------------------------- bleed


@given(leak_db=st.floats(-60, 20), own_db=st.floats(-20, 20), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_leak_of_known_level_is_told_exactly(leak_db: float, own_db: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bass, guitar = noise(rng), noise(rng)
    own, leak = 10 ** (own_db / 20), 10 ** (leak_db / 20)
    expected = leak_db - own_db + 20 * math.log10(np.linalg.norm(guitar) / np.linalg.norm(bass))
    assert scored(bass, own * bass + leak * guitar, guitar).bleed_db == pytest.approx(expected, abs=0.02)


def test_a_leak_in_one_register_counts_in_full(rng: np.random.Generator) -> None:
    """A projection without bands would tell half of it: the low end is half of the guitar."""
    time = np.arange(3 * RATE) / RATE
    bass = noise(rng)
    low, high = (0.1 * np.sin(2 * np.pi * hz * time) for hz in (150.0, 3000.0))
    found = scored(bass, bass + np.float32(low), (low + high).astype(np.float32)[np.newaxis].repeat(2, axis=0)).bleed_db
    expected = 20 * math.log10(np.linalg.norm([low, low]) / np.linalg.norm(bass))
    assert found == pytest.approx(expected, abs=0.1)


def test_what_a_separator_adds_of_its_own_is_no_bleeding(rng: np.random.Generator) -> None:
    bass, guitar, artefact = noise(rng, 20), noise(rng, 20), noise(rng, 20)
    assert scored(bass, bass + artefact, guitar).bleed_db < -25
    assert scored(bass, bass, guitar).bleed_db is None


def test_where_it_bleeds_shows_over_time(rng: np.random.Generator) -> None:
    bass, guitar = noise(rng, 6), noise(rng, 6)
    bleeding = np.repeat([0.0, 0.0, 1.0, 1.0, 0.0, 0.0], RATE).astype(np.float32)
    found = scored(bass, bass + 0.5 * bleeding * guitar, guitar).over_time
    assert found["time_s"] == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert [value is not None for value in found["bleed_db"]] == [False, False, True, True, False, False]
    assert found["bleed_db"][2] == pytest.approx(-6.02, abs=0.2)


# ------------------------------------------------------------------------------------------------- made comparable


def test_identical_is_told_and_infinite(rng: np.random.Generator) -> None:
    bass = noise(rng)
    found = scored(bass, bass, noise(rng))
    assert (found.sdr, found.sdr_bsseval_v4, found.si_sdr, found.bleed_db) == (None, None, None, None)
    assert found.notes == ("the estimate is the reference to the last bit: its SDR is infinite",)
    assert "Infinity" not in json.dumps(found.as_json(), allow_nan=False)


def test_silence_is_told(rng: np.random.Generator) -> None:
    bass = noise(rng)
    missing, unasked = scored(bass, np.zeros_like(bass)), scored(np.zeros_like(bass), bass)
    assert missing.sdr == pytest.approx(0.0)
    assert missing.si_sdr is None
    assert missing.notes == ("the estimate is silent: all of the reference is missing, an SDR of 0 dB",)
    assert unasked.sdr is None
    assert unasked.notes == ("the reference is silent: no ratio to it is defined",)


@given(shift=st.integers(-8000, 8000), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_a_shift_is_told_with_its_frames(shift: int, seed: int) -> None:
    whole = noise(np.random.default_rng(seed), 4.0)
    reach = 8000
    reference, estimate = whole[:, reach:-reach], whole[:, reach - shift : whole.shape[1] - reach - shift]
    found = scored(reference, estimate)
    if shift == 0:
        assert not any("later" in note or "earlier" in note for note in found.notes)
    else:
        word = "later" if shift > 0 else "earlier"
        (note,) = found.notes
        assert note.startswith(f"the estimate sounds {abs(shift)} frames ({abs(shift) / RATE * 1000:.1f} ms) {word}")


def test_the_sdr_after_a_shift_is_taken_back_is_foretold(rng: np.random.Generator) -> None:
    reference = np.pad(noise(rng, 3.0), ((0, 0), (1000, 1000)))
    late = np.roll(reference, 300, axis=1) + 0.1 * noise(rng, reference.shape[1] / RATE)
    for sign in (1, -1):
        heard = Audio(sign * late, RATE)
        found = find_shift(Audio(reference, RATE).reader(), heard.reader(), reference.shape[1])
        assert (found.frames, found.is_inverted) == (300, sign < 0)
        assert found.before_db == pytest.approx(sdr(Audio(reference, RATE), heard), abs=0.01)
        moved = Audio(np.roll(late, -300, axis=1), RATE)
        assert found.after_db == pytest.approx(sdr(Audio(reference, RATE), moved), abs=0.05)


def test_an_inverted_note_is_not_taken_for_a_late_one(rng: np.random.Generator) -> None:
    """Half a period later a tone is its own inverse, so that both would explain it; its decay tells them apart."""
    time = np.arange(3 * RATE) / RATE
    tone = np.tile(0.3 * np.sin(2 * np.pi * 110 * time) * np.exp(-time), (2, 1)).astype(np.float32)
    found = scored(tone, -tone + 0.01 * noise(rng))
    (note,) = found.notes
    assert note.startswith("the estimate is inverted in polarity: turned over its SDR would be 3")
    assert found.sdr == pytest.approx(-6.02, abs=0.05)


@given(gain=st.floats(-4, 4).filter(lambda gain: abs(gain) > 0.01 and abs(gain - 1) > 0.01))
@example(gain=0.47376906711377575)
@settings(max_examples=20, deadline=None)
def test_an_exact_multiple_is_told_with_its_gain(gain: float) -> None:
    bass = noise(np.random.default_rng(3))
    found = scored(bass, np.float32(gain) * bass)
    (note,) = found.notes
    told = re.fullmatch(r"the estimate is an exact multiple of the reference, (\S+) times it: .*", note)
    assert told
    assert float(told[1]) == pytest.approx(gain, rel=6e-4)
    assert note.endswith("its SI-SDR is infinite")
    assert ("polarity is inverted" in note) == (gain < 0)
    assert found.si_sdr is None
    assert found.sdr == pytest.approx(-20 * math.log10(abs(1 - gain)), abs=0.01)


def test_a_short_stem_does_not_shorten_the_others(rng: np.random.Generator) -> None:
    bass, guitar = noise(rng, 10.5), noise(rng, 10.5)
    estimates = {"bass": bass + 0.1 * guitar, "guitar": (guitar + 0.2 * bass)[:, :RATE]}
    alone = scored(bass, estimates["bass"], guitar)
    found = evaluate(
        {name: Audio(one, RATE).reader() for name, one in estimates.items()},
        {"bass": Audio(bass, RATE).reader(), "guitar": Audio(guitar, RATE).reader()},
    )
    assert found["bass"] == alone
    assert len(found["bass"].over_time["sdr"]) == 11
    assert found["guitar"].sdr == pytest.approx(
        sdr(Audio(guitar[:, :RATE], RATE), Audio(estimates["guitar"], RATE)), abs=1e-4
    )
    assert [len(row) for row in found["guitar"].over_time.values()] == [1, 1, 1]
    assert "the first 1.000 s were compared" in found["guitar"].notes[0]


def test_a_reference_that_ends_early_bleeds_up_to_its_end(rng: np.random.Generator) -> None:
    bass, guitar = noise(rng, 4), noise(rng, 1.5)
    found = scored(bass, bass + 0.5 * np.pad(guitar, ((0, 0), (0, bass.shape[1] - guitar.shape[1]))), guitar)
    assert [value is not None for value in found.over_time["bleed_db"]] == [True, True, False, False]
    assert found.over_time["sdr"][2:] == (None, None)
    assert found.notes == ("the reference of guitar ends after 1.500 s: it cannot bleed after that",)


def test_a_shift_beyond_reach_is_not_guessed(rng: np.random.Generator) -> None:
    whole = noise(rng, 4.0)
    far = round(LARGEST_SHIFT_S * RATE) + 100
    found = scored(whole[:, far:], whole[:, :-far])
    assert not found.notes


def test_a_shorter_estimate_is_compared_as_far_as_it_goes(rng: np.random.Generator) -> None:
    bass, noise_ = noise(rng, 4.0), noise(rng, 4.0)
    estimate = (bass + 0.1 * noise_)[:, : 3 * RATE]
    found = scored(bass, estimate)
    assert found.sdr == pytest.approx(sdr(Audio(bass[:, : 3 * RATE], RATE), Audio(estimate, RATE)), abs=1e-4)
    assert found.notes == (
        f"the estimate is {RATE} frames shorter than its reference: the first 3.000 s were compared",
    )
    assert "longer" in scored(bass[:, : 3 * RATE], bass).notes[-1]


def test_mono_stands_for_both_channels(rng: np.random.Generator) -> None:
    mono = noise(rng, channels=1)
    stereo = mono.repeat(2, axis=0)
    wrong = stereo + 0.1 * noise(rng)
    assert "the estimate is mono and was taken for both channels" in scored(stereo, mono).notes
    found = scored(mono, wrong)
    assert "the reference is mono and was taken for both channels" in found.notes
    assert found.sdr == pytest.approx(sdr(Audio(stereo, RATE), Audio(wrong, RATE)), abs=1e-4)


def test_another_sample_rate_is_resampled_and_told() -> None:
    rates = (22050, 44100)
    low, high = (Audio(0.3 * np.sin(2 * np.pi * 220 * np.arange(2 * rate) / rate), rate).reader() for rate in rates)
    found = evaluate({"bass": high}, {"bass": low})["bass"]
    assert found.sdr > 40
    assert "the estimate was resampled from 44100 Hz to 22050 Hz, as its reference" in found.notes


@given(sizes=st.lists(st.integers(1, 30000), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_blocks_do_not_matter(sizes: list[int]) -> None:
    rng = np.random.default_rng(1)
    truth = {"bass": noise(rng), "guitar": noise(rng)}
    estimate = truth["bass"] + 0.2 * truth["guitar"]

    def blocks(_: int):
        first = 0
        while first < estimate.shape[1]:
            for size in sizes:
                if first < estimate.shape[1]:
                    yield estimate[:, first : first + size]
                first += size

    references = {name: Audio(samples, RATE).reader() for name, samples in truth.items()}
    pieces = evaluate({"bass": Reader(RATE, 2, estimate.shape[1], blocks)}, references)["bass"].as_json()
    assert pieces == evaluate({"bass": Audio(estimate, RATE).reader()}, references)["bass"].as_json()


def test_an_estimate_without_a_reference_is_an_error(rng: np.random.Generator) -> None:
    one = Audio(noise(rng), RATE).reader()
    with pytest.raises(ParameterError, match="drums.*a stem with a reference: bass"):
        evaluate({"drums": one}, {"bass": one})


# ------------------------------------------------------------------------------------------------------------ folders


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder of true stems: bass, two guitars and their mixture."""
    stems = {"bass": noise(rng), "guitar1": noise(rng), "guitar2": noise(rng)}
    stems["mixture"] = sum(stems.values())
    (tmp_path / "truth").mkdir()
    for name, samples in stems.items():
        write(tmp_path / "truth" / f"{name}.wav", Audio(samples, RATE))
    return tmp_path


def test_guitars_recorded_one_by_one_are_summed(song: Path) -> None:
    guitars = [read(song / "truth" / f"guitar{number}.wav").samples for number in (1, 2)]
    (song / "est").mkdir()
    write(song / "est" / "guitar.flac", Audio(guitars[0] + guitars[1], RATE))
    assert evaluate_folder(song / "est", song / "truth")["guitar"].sdr > 80
    write(song / "truth" / "guitar.wav", Audio(guitars[0], RATE))
    assert evaluate_folder(song / "est", song / "truth")["guitar"].sdr == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("suffix", [".wave", ".bwf", ".snd", ".WAV"])
def test_a_stem_is_found_under_every_suffix_of_audio(song: Path, suffix: str) -> None:
    (song / "est").mkdir()
    (song / "est" / f"bass{suffix}").write_bytes((song / "truth" / "bass.wav").read_bytes())
    found = evaluate_folder(song / "est", song / "truth")["bass"]
    assert found.notes == ("the estimate is the reference to the last bit: its SDR is infinite",)


def test_an_opus_file_is_a_stem(song: Path) -> None:
    (song / "est").mkdir()
    bass = resample(open_reader(song / "truth" / "bass.wav"), 48000).read()
    soundfile.write(song / "est" / "bass.opus", bass.samples.T, 48000, "OPUS", format="OGG")
    assert evaluate_folder(song / "est", song / "truth")["bass"].sdr > 5


def test_an_excerpt_is_compared_with_its_part(song: Path) -> None:
    outcome = gbsep.render(song / "truth" / "mixture.wav", "exp002", song / "out", start_s=1.0, duration_s=1.5)
    found = evaluate_folder(outcome.folder, song / "truth")
    bass, truth = read(outcome.files["bass"]), read(song / "truth" / "bass.wav", 1.0, 1.5)
    assert found["bass"].sdr == pytest.approx(sdr(truth, bass), abs=1e-3)
    assert not found["bass"].notes


def test_effects_are_told_and_dry_stems_taken(song: Path) -> None:
    preset = {
        "schema_version": 1,
        "name": "loud",
        "title": "A gain on the bass",
        "separate": {"backend": "crossover"},
        "stems": {
            "bass": {"from": ["bass"], "chain": [{"effect": "Gain", "gain_db": 12.0}]},
            "guitar": {"from": ["guitar"]},
        },
    }
    outcome = gbsep.render(song / "truth" / "mixture.wav", preset, song / "out", dry_stems=True)
    wet, dry = (evaluate_folder(outcome.folder, song / "truth", dry=dry) for dry in (False, True))
    assert "what the effects changed (Gain) counts as distortion" in wet["bass"].notes[0]
    assert not dry["bass"].notes
    assert dry["bass"].sdr > wet["bass"].sdr
    assert dry["guitar"].sdr == wet["guitar"].sdr


def test_folders_that_do_not_meet_are_refused(song: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        evaluate_folder(song / "nowhere", song / "truth")
    (song / "empty").mkdir()
    with pytest.raises(OutputError, match="holds no stems"):
        evaluate_folder(song / "empty", song / "truth")
    write(song / "empty" / "drums.wav", Audio(np.ones(RATE, np.float32), RATE))
    with pytest.raises(OutputError, match=r"has drums; .*truth has bass, guitar: stems are paired by name"):
        evaluate_folder(song / "empty", song / "truth")
    write(song / "empty" / "drums.flac", Audio(0.5 * np.ones(RATE, np.float32), RATE))
    with pytest.raises(OutputError, match=r"holds drums twice: drums\.flac and drums\.wav"):
        evaluate_folder(song / "empty", song / "truth")
    write(song / "truth" / "guitar2.wav", Audio(np.ones(RATE, np.float32), RATE))
    (song / "empty" / "drums.flac").rename(song / "empty" / "guitar.flac")
    with pytest.raises(AudioFileError, match=r"does not add up with guitar1\.wav"):
        evaluate_folder(song / "empty", song / "truth")


def test_the_command_prints_json_by_stem(song: Path) -> None:
    outcome = gbsep.render(song / "truth" / "mixture.wav", "exp002", song / "out")
    arguments = ["evaluate", str(outcome.folder), "--reference", str(song / "truth"), "--json"]
    result = CliRunner().invoke(cli, arguments, obj={"debug": True})
    told = json.loads(result.stdout)
    assert list(told) == ["bass", "guitar"]
    assert {"sdr", "sdr_bsseval_v4", "si_sdr", "bleed_db", "over_time", "notes"} == set(told["bass"])
    gbsep.render(song / "truth" / "mixture.wav", "exp002_100", song / "out")
    arguments[1] = str(song / "out" / "mixture")
    told = json.loads(CliRunner().invoke(cli, arguments, obj={"debug": True}).stdout)
    assert list(told) == ["exp002", "exp002_100"]
    shown = CliRunner().invoke(cli, arguments[:-1], obj={"debug": True}).stdout
    assert "BSS v4" in shown
    assert "exp002_100" in shown
