"""NMF: its transform against scipy, its updates against scikit-learn, its bass line and masks against known signals."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal

from gbsep.audio import Audio
from gbsep.errors import ParameterError
from gbsep.separation import nmf
from gbsep.separation.backend import Context, parse_settings, separate

RATE = 44_100
FAST = {"n_components": 4, "n_iterations": 20, "n_fft": 1024}
GUIDED = {"guide": "notes", "n_components": 4, "n_iterations": 20, "n_fft": 8192}


def tone(hz: float, seconds: float = 1.0, partials: int = 6) -> np.ndarray:
    """A harmonic series, amplitudes 1 / n, shape (1, frames)."""
    time = np.arange(round(seconds * RATE)) / RATE
    return 0.1 * sum(np.sin(2 * np.pi * hz * n * time) / n for n in range(1, partials + 1))[np.newaxis]


def sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - estimate) ** 2)))


def bass_and_guitar() -> tuple[np.ndarray, np.ndarray]:
    """A bass line and higher guitar notes that change at other times."""
    bass = np.concatenate([tone(nmf.midi_to_hz(pitch), 0.6) for pitch in (28, 33, 31, 28)], axis=1)
    guitar = np.concatenate([tone(nmf.midi_to_hz(pitch), 0.4, 12) for pitch in (64, 67, 71, 64, 74, 67)], axis=1)
    return bass, guitar


@pytest.mark.parametrize("n_fft", [1024, 2048, 4096, 8192])
def test_stft_is_scipys(n_fft: int, rng: np.random.Generator) -> None:
    samples = rng.standard_normal(20_000).astype(np.float32)
    hop, window = n_fft // 4, nmf.hann(n_fft)
    ours = nmf.stft(samples, n_fft)
    padded = np.pad(samples, (n_fft - hop, n_fft))
    _, _, reference = signal.stft(
        padded, window=window, nperseg=n_fft, noverlap=n_fft - hop, boundary=None, padded=False, scaling="spectrum"
    )
    assert_allclose(ours, reference.T[: len(ours)] * window.sum(), atol=1e-3)


@settings(deadline=None, max_examples=40)
@given(frames=st.integers(1, 10_000), n_fft=st.sampled_from([16, 1024, 2048, 8192]))
def test_istft_gives_the_signal_back(frames: int, n_fft: int) -> None:
    samples = np.random.default_rng(frames).standard_normal(frames).astype(np.float32)
    spectrogram = nmf.stft(samples, n_fft)
    assert spectrogram.shape == nmf.spectrogram_shape(frames, n_fft)
    assert_allclose(nmf.istft(spectrogram, frames), samples, atol=5e-6)


def test_updates_are_scikit_learns(rng: np.random.Generator) -> None:
    from sklearn.decomposition import non_negative_factorization

    magnitude = rng.random((300, 65)).astype(np.float32)
    activations, spectra = nmf.random_components(magnitude.shape, 5, rng)
    theirs, their_spectra, _ = non_negative_factorization(
        magnitude, W=activations.copy(), H=spectra.copy(), n_components=5, init="custom", solver="mu",
        beta_loss="kullback-leibler", tol=0, max_iter=10,
    )  # fmt: skip
    nmf.factorise(magnitude, activations, spectra, 10)
    assert_allclose(activations @ spectra, theirs @ their_spectra, rtol=1e-3)


def test_divergence_never_rises(rng: np.random.Generator) -> None:
    magnitude = (rng.random((200, 3)) @ rng.random((3, 33))).astype(np.float32)
    activations, spectra = nmf.random_components(magnitude.shape, 3, rng)
    reached = []
    for _ in range(30):
        nmf.factorise(magnitude, activations, spectra, 1)
        model = (activations @ spectra).astype(np.float64)
        reached.append(np.sum(magnitude * np.log(magnitude / model) - magnitude + model))
    assert (np.diff(reached) <= 1e-4 * reached[0]).all()
    assert reached[-1] < 0.5 * reached[0]


def test_threads_do_not_change_the_factors(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    magnitude = rng.random((500, 33)).astype(np.float32)
    results = []
    for count in (1, 3):
        monkeypatch.setattr(nmf, "threads", lambda count=count: count)
        activations, spectra = nmf.random_components(magnitude.shape, 3, np.random.default_rng(0))
        nmf.factorise(magnitude, activations, spectra, 5)
        results.append((activations, spectra))
    assert_array_equal(results[0][0], results[1][0])
    assert_array_equal(results[0][1], results[1][1])


def test_zeros_stay_zeros(rng: np.random.Generator) -> None:
    magnitude = rng.random((50, 33)).astype(np.float32)
    activations, spectra = nmf.random_components(magnitude.shape, 3, rng)
    activations[10:20, 0] = 0
    spectra[1, 5:] = 0
    nmf.factorise(magnitude, activations, spectra, 20)
    assert not activations[10:20, 0].any()
    assert not spectra[1, 5:].any()
    assert np.isfinite(activations @ spectra).all()


@pytest.mark.parametrize("midi", [28, 36, 43, 52, 64, 76])
def test_pitch_of_a_harmonic_spectrum(midi: int) -> None:
    hz = nmf.midi_to_hz(midi)
    frequency = np.arange(4097) * RATE / 8192
    spectrum = np.abs(nmf.stft(tone(hz)[0], 8192)).mean(axis=0)
    assert abs(12 * np.log2(nmf.pitch_hz(spectrum[np.newaxis], frequency)[0] / hz)) <= 0.5


@pytest.mark.parametrize("n_fft", [1024, 2048, 4096, 8192])
@pytest.mark.parametrize("mask", ["soft", "hard"])
def test_masks_partition_the_mixture(n_fft: int, mask: str, rng: np.random.Generator) -> None:
    mixture = Audio(0.1 * rng.standard_normal((2, 9000)), RATE)
    stems = separate(mixture, "nmf", **{**FAST, "n_fft": n_fft, "mask": mask}).stems
    assert_allclose(stems["bass"].samples + stems["guitar"].samples, mixture.samples, atol=1e-7)


def test_hard_mask_is_all_or_nothing(rng: np.random.Generator) -> None:
    activations, spectra = nmf.random_components((20, 33), 4, rng)
    share = np.array([1, 1, 0, 0])
    bass, guitar = activations[:, :2] @ spectra[:2], activations[:, 2:] @ spectra[2:]
    hard = nmf.bass_mask(activations, spectra, share, nmf.Settings(mask="hard"))
    assert_array_equal(hard, bass > guitar)
    soft = nmf.bass_mask(activations, spectra, share, nmf.Settings(power=2.0))
    assert_allclose(soft, bass**2 / (bass**2 + guitar**2), rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_components_are_told_apart_by_pitch_not_by_order(seed: int) -> None:
    time = np.arange(2 * RATE) / RATE
    bass = tone(55, 2.0) * (signal.square(2 * np.pi * 2 * time) > 0)
    guitar = tone(660, 2.0) * (signal.square(2 * np.pi * 3 * time) > 0)
    stems = separate(Audio(bass + guitar, RATE), "nmf", seed=seed, **{**FAST, "n_fft": 4096}).stems
    assert sdr_db(bass, stems["bass"].samples) > 10
    assert sdr_db(guitar, stems["guitar"].samples) > 10


def test_guided_separation_follows_a_moving_line() -> None:
    bass, guitar = bass_and_guitar()
    mixture = Audio(bass + guitar, RATE)
    stems = separate(mixture, "nmf", **GUIDED).stems
    assert sdr_db(bass, stems["bass"].samples) > sdr_db(bass, mixture.samples) + 6
    assert sdr_db(guitar, stems["guitar"].samples) > sdr_db(guitar, mixture.samples) + 6


@pytest.mark.parametrize("case", [FAST, GUIDED])
def test_seed_repeats_and_matters(case: dict) -> None:
    mixture = Audio(sum(bass_and_guitar()), RATE)
    case = {**case, "n_fft": 8192, "n_components": 16}
    first, again, other = (separate(mixture, "nmf", seed=seed, **case).stems["bass"].samples for seed in (1, 1, 2))
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-5


@pytest.mark.parametrize("case", [FAST, GUIDED])
@pytest.mark.parametrize("sample_rate", [8000, 44_100, 192_000])
@pytest.mark.parametrize("kind", ["one frame", "silence", "constant", "quiet noise"])
def test_odd_signals(case: dict, sample_rate: int, kind: str, rng: np.random.Generator) -> None:
    samples = {
        "one frame": np.ones((1, 1)),
        "silence": np.zeros((2, 3000)),
        "constant": np.full((1, 3000), 0.5),
        "quiet noise": 1e-12 * rng.standard_normal((2, 3000)),
    }[kind]
    mixture = Audio(samples, sample_rate)
    stems = separate(mixture, "nmf", **case).stems
    total = stems["bass"].samples + stems["guitar"].samples
    assert_allclose(total, mixture.samples, atol=1e-6 * np.abs(samples).max())
    if kind == "silence":
        assert not total.any()


def test_window_keeps_its_duration_at_other_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(nmf, "stft", lambda samples, n_fft, stft=nmf.stft: used.append(n_fft) or stft(samples, n_fft))
    for sample_rate in (22_050, 44_100, 48_000, 96_000, 192_000):
        separate(Audio(np.ones((1, 100)), sample_rate), "nmf", **FAST)
    assert used[::2] == [512, 1024, 1024, 2048, 4096]


@pytest.mark.parametrize("case", [FAST, GUIDED])
def test_progress_rises_to_one(case: dict, rng: np.random.Generator) -> None:
    told: list[float] = []
    mixture = Audio(rng.standard_normal((1, 3000)), RATE)
    context = Context(("guitar",), progress=told.append)
    list(nmf.run(mixture.reader(), nmf.Settings(**case), context))
    assert told[-1] == 1
    assert (np.diff(told) > 0).all()


def test_bass_line_is_found_under_a_chord() -> None:
    pitches = [28, 33, 40, 31, 26]
    bass = np.concatenate([tone(nmf.midi_to_hz(pitch), 1.0) for pitch in pitches], axis=1)[0]
    guitar = 0.7 * sum(tone(nmf.midi_to_hz(pitch), 5.0, 10)[0] for pitch in (64, 69, 72))
    magnitude = np.abs(nmf.stft(bass + guitar, 8192))
    frequency = np.arange(magnitude.shape[1]) * RATE / 8192
    line = nmf.bass_line(magnitude, frequency, nmf.load_notes())
    middle_s = (np.arange(len(line)) - 1) * 2048 / RATE
    for second, pitch in enumerate(pitches):
        inside = (middle_s > second + 0.15) & (middle_s < second + 0.85)
        assert np.median(line[inside]) == pitch


def test_notes_spectra_have_their_partials() -> None:
    frequency = np.arange(1000) * 5.0
    partials = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    spectra = nmf.Notes(np.array([45, 33]), np.array(["a", "b"]), partials).spectra(frequency, lobe_bins=1.0)
    assert_allclose(spectra.sum(axis=1), 1, rtol=1e-5)
    assert_array_equal(frequency[spectra.argmax(axis=1)], [110, 165])
    assert_allclose(spectra[0, 21:24] / spectra[0, 22], np.exp([-0.5, 0, -0.5]), rtol=1e-2)


def test_shipped_notes_are_basses_with_every_pitch() -> None:
    notes = nmf.load_notes()
    assert_array_equal(np.unique(notes.pitch), np.arange(24, 70))
    assert len(set(notes.instrument)) == 5
    assert_allclose(notes.partials.sum(axis=1), 1, atol=1e-2)


def test_notes_without_an_instrument() -> None:
    notes = nmf.load_notes()
    rest = notes.without(["bass_swag"])
    assert set(notes.instrument) - set(rest.instrument) == {"bass_swag"}
    assert len(rest.pitch) == len(rest.instrument) == len(rest.partials) < len(notes.pitch)


def test_identity_names_the_notes_only_where_they_count() -> None:
    context = Context(("bass",))
    guided = nmf.identity(nmf.Settings(guide="notes"), context)
    assert guided["notes"] == hashlib.sha256(nmf.NOTES_FILE.read_bytes()).hexdigest()
    assert nmf.identity(nmf.Settings(), context)["notes"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_fft", 512), ("n_fft", 16_384), ("n_components", 1), ("power", float("nan")), ("mask", "sharp"), ("guide", 1)],
)
def test_settings_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=name):
        parse_settings("nmf", {name: value})


def test_notes_file_is_what_the_script_makes(data: Path, tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "scripts" / "learn_notes.py"
    spec = importlib.util.spec_from_file_location("learn_notes", path)
    learn_notes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(learn_notes)
    arrays = learn_notes.learn(data / "notes")
    learn_notes.write(arrays, tmp_path / "first.npz")
    learn_notes.write(arrays, tmp_path / "second.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    with np.load(nmf.NOTES_FILE) as shipped:
        assert_array_equal(arrays["pitch"], shipped["pitch"])
        assert_array_equal(arrays["instrument"], shipped["instrument"])
        assert_allclose(arrays["partials"], shipped["partials"], atol=1e-3)


def test_real_bass_comes_out_better_than_by_filtering(data: Path) -> None:
    from gbsep.io.read import open_reader

    folder = data / "jams" / "03_bass_pasta_gtr_shiny+gtr_green"
    mixture, bass = (
        open_reader(folder / f"{name}.flac", 0.0, 10.0).read().samples.mean(axis=0, keepdims=True)
        for name in ("mixture", "bass")
    )
    best_filtered = max(
        sdr_db(bass, signal.sosfiltfilt(signal.butter(4, hz, fs=RATE, output="sos"), mixture))
        for hz in range(100, 401, 50)
    )
    settings = nmf.Settings(guide="notes", n_fft=8192, split_hz=230.0)
    notes = nmf.load_notes().without(["bass_pasta"])
    guided = nmf.separate_bass(mixture, RATE, settings, Context(("bass",)), notes)
    assert sdr_db(bass, guided) > best_filtered
