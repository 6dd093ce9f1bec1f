"""The contract that every backend keeps, and the crossover's physics.

Neural backends run with small untrained networks in the published formats, found by the real loader.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from gbsep.audio import Audio, join
from gbsep.errors import ParameterError, SeparationFailed
from gbsep.separation.backend import BACKENDS, Context, parse_settings, separate, stem_blocks
from tests.msst import random_models
from tests.networks import write_demucs, write_openunmix

RATE = 44100

CASES = {
    "crossover": {},
    "crossover causal": {"zero_phase": False},
    "nmf": {"n_iterations": 5, "n_components": 4, "n_fft": 1024},
    "nmf hard": {"n_iterations": 5, "n_components": 4, "n_fft": 1024, "mask": "hard"},
    "compact": {},
    "openunmix": {"model": "umx"},
    "demucs": {"model": "tiny"},
    "msst": {"model": "tiny_bs_roformer"},
    "ensemble": {"of": [{"backend": "crossover"}, {"backend": "compact"}]},
    "ensemble spectra": {"of": [{"backend": "crossover"}] * 2, "how": "median_spectrum"},
    "guitars": {"of": {"backend": "crossover"}},
}
SUM_TO_MIXTURE = {"crossover", "nmf", "nmf hard", "compact", "ensemble", "ensemble spectra"}

Separate = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_demucs(folder, "tiny")
    write_openunmix(folder, "umx")
    random_models.write_checkpoint("tiny_bs_roformer", folder)
    return folder


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def run(case: str, models: Path) -> Separate:
    """Separate with the backend of the case: all stems, as arrays."""

    def run(samples: np.ndarray, sample_rate: int = RATE, seed: int = 0) -> dict[str, np.ndarray]:
        mixture = Audio(samples, sample_rate)
        stems = separate(mixture, case.split()[0], seed=seed, models=models, device="cpu", **CASES[case])
        return {name: stem.samples for name, stem in stems.stems.items()}

    return run


def noise(rng: np.random.Generator, channels: int, frames: int) -> np.ndarray:
    return (0.1 * rng.standard_normal((channels, frames))).astype(np.float32)


def test_every_backend_has_a_case() -> None:
    assert {case.split()[0] for case in CASES} == set(BACKENDS)


@pytest.mark.parametrize(("channels", "frames"), [(1, 1), (2, 2), (1, 100), (2, 5000)])
def test_stems_have_the_mixtures_shape(run: Separate, rng: np.random.Generator, channels: int, frames: int) -> None:
    samples = noise(rng, channels, frames)
    before = samples.copy()
    for stem in run(samples).values():
        assert stem.shape == (channels, frames)
        assert stem.dtype == np.float32
        assert np.isfinite(stem).all()
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("sample_rate", [8000, 48000, 192000])
def test_any_sample_rate(run: Separate, rng: np.random.Generator, sample_rate: int) -> None:
    for stem in run(noise(rng, 2, sample_rate // 8), sample_rate).values():
        assert stem.shape == (2, sample_rate // 8)


def test_silence_stays_silent(run: Separate) -> None:
    for stem in run(np.zeros((2, 6000), np.float32)).values():
        assert np.abs(stem).max() < 1e-6


def test_full_scale_and_dc_stay_finite(run: Separate, rng: np.random.Generator) -> None:
    for samples in (np.ones((1, 5000)), np.sign(rng.standard_normal((2, 5000)))):
        for stem in run(samples.astype(np.float32)).values():
            assert np.isfinite(stem).all()


def test_a_seed_repeats(run: Separate, rng: np.random.Generator) -> None:
    samples = noise(rng, 2, 8000)
    for first, second in zip(run(samples, seed=5).values(), run(samples, seed=5).values(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_stems_add_up_to_the_mixture(run: Separate, case: str, rng: np.random.Generator) -> None:
    if case not in SUM_TO_MIXTURE:
        pytest.skip("stems of this backend leave a residual by design")
    samples = noise(rng, 2, 20000)
    np.testing.assert_allclose(sum(run(samples).values()), samples, atol=2e-7)


def test_only_what_is_wanted_is_made(case: str, models: Path, rng: np.random.Generator) -> None:
    mixture = Audio(noise(rng, 1, 4000), RATE)
    backend = case.split()[0]
    parsed = parse_settings(backend, CASES[case])
    everything = BACKENDS[backend].load().stem_names(parsed, models)
    assert "bass" in everything
    for blocks in stem_blocks(mixture.reader(), backend, parsed, Context(("bass",), device="cpu", models=models)):
        assert set(blocks) == {"bass"}


def test_progress_ends_at_the_end(case: str, models: Path, rng: np.random.Generator) -> None:
    seen: list[float] = []
    backend = case.split()[0]
    context = Context(("bass",), device="cpu", models=models, progress=seen.append)
    mixture = Audio(noise(rng, 1, 9000), RATE).reader()
    for _ in stem_blocks(mixture, backend, parse_settings(backend, CASES[case]), context):
        pass
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_unknown_names_are_refused() -> None:
    audio = Audio(np.zeros(100), RATE)
    with pytest.raises(ParameterError, match="did you mean 'crossover'"):
        separate(audio, "crosover")
    with pytest.raises(ParameterError, match="cutof_hz .* did you mean 'cutoff_hz'"):
        separate(audio, "crossover", cutof_hz=100.0)
    with pytest.raises(ParameterError, match="has no such stem; did you mean 'guitar'"):
        separate(audio, "crossover", wanted=["guitars"])


def test_a_backend_that_breaks_its_promise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from gbsep.separation import crossover

    audio = Audio(np.ones(100), RATE)
    for broken, message in (
        ({"bass": np.full((1, 100), np.nan, np.float32)}, "stem 'bass': 100 samples are NaN"),
        ({"bass": np.zeros((1, 99), np.float32)}, "gave 99 frames for a mixture of 100"),
        ({"drums": np.zeros((1, 100), np.float32)}, "gave stems"),
    ):
        monkeypatch.setattr(crossover, "run", lambda *_, broken=broken: iter([broken]))
        with pytest.raises(SeparationFailed, match=message):
            separate(audio, "crossover", wanted=["bass"])


# The crossover


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 8), st.floats(60, 2000), st.integers(1, 2), st.integers(2000, 40000), st.sampled_from([22050, 48000])
)
def test_zero_phase_crossover_is_scipys_filter(
    order: int, cutoff_hz: float, channels: int, frames: int, sample_rate: int
) -> None:
    samples = noise(np.random.default_rng(frames), channels, frames)
    stems = separate(Audio(samples, sample_rate), "crossover", cutoff_hz=cutoff_hz, order=order).stems
    sos = signal.butter(order, cutoff_hz, fs=sample_rate, output="sos")
    np.testing.assert_allclose(stems["bass"].samples, signal.sosfiltfilt(sos, samples.astype(np.float64)), atol=1e-6)
    np.testing.assert_allclose(stems["bass"].samples + stems["guitar"].samples, samples, atol=1e-7)


@pytest.mark.parametrize("zero_phase", [True, False])
def test_the_crossover_in_blocks_is_the_filter_over_the_whole(rng: np.random.Generator, zero_phase: bool) -> None:
    samples = noise(rng, 2, 900_000)
    settings_ = parse_settings("crossover", {"cutoff_hz": 150.0, "zero_phase": zero_phase})
    blocks = list(stem_blocks(Audio(samples, RATE).reader(), "crossover", settings_, Context(("bass",))))
    assert len(blocks) > 2
    sos = signal.butter(4, 150.0, fs=RATE, output="sos")
    whole = signal.sosfiltfilt(sos, samples) if zero_phase else signal.sosfilt(sos, samples)
    np.testing.assert_allclose(join(stems["bass"] for stems in blocks), whole, atol=1e-7)


def test_a_tone_goes_where_it_belongs() -> None:
    time_s = np.arange(RATE) / RATE
    for frequency_hz, stays, goes in ((50.0, "bass", "guitar"), (1500.0, "guitar", "bass")):
        tone = np.sin(2 * np.pi * frequency_hz * time_s)
        stems = separate(Audio(tone, RATE), "crossover", cutoff_hz=250.0).stems
        inside = slice(RATE // 4, -RATE // 4)
        rms = {name: np.sqrt(np.mean(stem.samples[0, inside] ** 2)) for name, stem in stems.items()}
        assert rms[stays] == pytest.approx(np.sqrt(0.5), rel=0.01)
        assert rms[goes] < 1e-3


def test_a_cutoff_at_half_the_sample_rate_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"cutoff_hz = 4000\.0 Hz is not allowed: above 8e-05 and below 4000 Hz"):
        separate(Audio(np.zeros(100), 8000), "crossover", cutoff_hz=4000.0)
