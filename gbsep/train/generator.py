"""Scores played on instruments, through amps: aligned stems whose sum is the music.

Each part is a mono signal at SAMPLE_RATE. Amps, drive, cabinets, compression, chorus, delay and reverb (Pedalboard)
come before any mixing, so a stem is exactly what its instrument adds to a mixture. Panning, level, equalisation and
folding to mono vary batch by batch in `mixing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .instruments import RANGES, SAMPLE_RATE, Instrument
from .scores import compose
from .styles import Note

GUITARS = 2
"""Guitar parts of every song; one of them is silent in a quarter of the songs."""

AGILE, PLAIN = 0.5, 0.6
"""How often a song is an agile one, and how often one of the others is a plain one (see `scores`)."""

BENT, BEND = 0.5, 5.0
"""How often an instrument is made another size, and by up to how many semitones."""

REVOICED, HARMONICS = 0.7, 32
"""How often an instrument's harmonics have another balance, and how many of them."""

DAMPED = 0.4
"""How often its notes decay faster, or a little slower."""

BARITONE = 0.08
"""How often the bass is a guitar an octave lower, as a Bass VI is."""

PHRASED, PHRASE_UP = 0.12, 4
"""How often a guitar part is played phrases instead of a score, where there are phrases, and by up to how many
semitones each is moved."""

SLUR_S = 0.005, 0.1
"""How long a hand takes from one pitch of a stroke to the next: from hammering to sliding and bending."""


@dataclass(frozen=True, eq=False)
class Take:
    """A song as played: `stems` float32 (1 + GUITARS, frames), the bass first; `players` the instruments' names;
    `parts` what each of them plays, a guitar of phrases or one that is silent too."""

    stems: np.ndarray
    players: tuple[str, ...]
    parts: tuple[tuple[Note, ...], ...]


def takes(
    seed: int,
    instruments: Sequence[Instrument],
    seconds: float,
    phrases: Sequence[np.ndarray] = (),
    revoiced: bool = True,
    plain: float = PLAIN,
    agile: float = AGILE,
) -> Iterator[Take]:
    """Endless music. Take number n depends on `seed`, n and all that follows alone.

    Without `revoiced` the instruments keep the harmonics and the decay that they have. `agile` is how often a song is
    an agile one, `plain` how often one of the others is a plain one (see `scores`).
    """
    bands = {role: [instrument for instrument in instruments if instrument.role == role] for role in RANGES}
    number = 0
    while True:
        rng = np.random.default_rng([seed, number])
        manner = next((name for name, share in (("agile", agile), ("plain", plain)) if _happens(rng, share)), "any")
        song = compose(rng, seconds, GUITARS, manner)
        low = rng.random() < BARITONE and bool(bands["guitar"])
        bass = choose(rng, bands["guitar" if low else "bass"])
        players = [replace(bass, role="bass", bend=bass.bend - 12.0) if low else bass]
        players += [choose(rng, bands["guitar"]) for _ in range(GUITARS)]
        names = [who.name for who in players]
        dry = [play(rng, part, who, seconds, revoiced) for part, who in zip(song.parts, players, strict=True)]
        if phrases and rng.random() < PHRASED:
            dry[1], names[1] = _string_together(rng, phrases, len(dry[1])), "phrases"
        if rng.random() < 1 / 4:
            dry[int(rng.integers(1, 1 + GUITARS))][:] = 0.0
        stems = [amplify(rng, part, who.role) for part, who in zip(dry, players, strict=True)]
        yield Take(np.stack(stems), tuple(names), tuple(song.parts))
        number += 1


def _happens(rng: np.random.Generator, share: float) -> bool:
    """Whether something that happens in this part of all cases does; what never does draws nothing."""
    return share > 0 and bool(rng.random() < share)


def _string_together(rng: np.random.Generator, phrases: Sequence[np.ndarray], frames: int) -> np.ndarray:
    """Phrases in any order, each moved by some semitones, with rests between them, float32 (frames,)."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < frames:
        phrase = phrases[int(rng.integers(len(phrases)))]
        speed = 2 ** (int(rng.integers(-PHRASE_UP, PHRASE_UP + 1)) / 12)
        moved = np.interp(np.arange(0, len(phrase) - 1, speed), np.arange(len(phrase)), phrase).astype(np.float32)
        parts += [moved, np.zeros(int(rng.uniform(0, 1.5) * SAMPLE_RATE), np.float32)]
    return np.concatenate(parts)[:frames]


def choose(rng: np.random.Generator, band: Sequence[Instrument]) -> Instrument:
    """Draw a kind of instrument, recorded ones twice as often as the others, then an instrument of that kind."""
    kinds = sorted({instrument.kind for instrument in band})
    weights = np.array([2.0 if kind == "recorded" else 1.0 for kind in kinds])
    kind = str(rng.choice(kinds, p=weights / weights.sum()))
    group = [instrument for instrument in band if instrument.kind == kind]
    bend = rng.uniform(-BEND, BEND) if rng.random() < BENT else 0.0
    return replace(group[int(rng.integers(len(group)))], bend=bend)


def play(
    rng: np.random.Generator, part: Sequence[Note], player: Instrument, seconds: float, revoiced: bool = True
) -> np.ndarray:
    """The dry sum of the notes, float32 (frames,)."""
    from scipy.signal import lfilter

    frames = round(seconds * SAMPLE_RATE)
    dry = np.zeros(frames, np.float32)
    tuning = rng.normal(0, 0.08)
    release_s = rng.uniform(0.02, 0.12)
    voice = _voice(rng) if revoiced else None
    damping = rng.uniform(-0.5, 3.0) if revoiced and rng.random() < DAMPED else 0.0
    for note in part:
        start = int(note.start_s * SAMPLE_RATE)
        length = min(int((note.duration_s + release_s) * SAMPLE_RATE), frames - start)
        if length < 64:
            continue
        time = np.arange(length) / SAMPLE_RATE
        glide = note.slide_from * np.exp(-time / 0.04) if note.slide_from else np.zeros(length)
        for after_s, up in note.then:
            glide += (up - glide[-1]) * np.clip((time - after_s) / rng.uniform(*SLUR_S), 0, 1)
        tone = player.tone(note.pitch + tuning + rng.normal(0, 0.03) + glide, note.velocity)
        if voice is not None:
            tone = _revoiced(rng, tone, note.pitch + tuning, voice)
        if note.harmonic > 1:
            tone = _touched(player, note, tuning, length)
        if note.snap:
            tone = _snapped(rng, tone, note.snap)
        if damping:
            tone = tone * np.exp(-time * damping).astype(np.float32)
        if note.mute:
            tone = tone * np.exp(-time * 14 * note.mute)
            pole = 0.75 * note.mute
            tone = lfilter([1 - pole], [1, -pole], tone)
        fade = min(int(release_s * SAMPLE_RATE), length)
        tone[-fade:] *= np.linspace(1, 0, fade)
        dry[start : start + length] += tone * (0.3 + 0.7 * note.velocity)
    return dry


def _touched(player: Instrument, note: Note, tuning: float, length: int) -> np.ndarray:
    """A string touched at a node, so that only every so many of its partials sound: the mean of its tone at as many
    places of its period."""
    string = note.pitch + tuning - 12 * np.log2(note.harmonic)
    delay = SAMPLE_RATE / (440.0 * 2 ** ((string - 69) / 12)) / note.harmonic
    tone = player.tone(np.full(length + round(delay * note.harmonic), string), note.velocity)
    at = np.arange(length)
    turns = [np.interp(at + number * delay, np.arange(len(tone)), tone) for number in range(note.harmonic)]
    mean: np.ndarray = np.mean(turns, axis=0).astype(np.float32)
    return mean


def _snapped(rng: np.random.Generator, tone: np.ndarray, snap: float) -> np.ndarray:
    """A tone whose string hits the frets: bright at first, with a click, and as loud as before."""
    time = np.arange(len(tone)) / SAMPLE_RATE
    bright = np.diff(tone, prepend=tone[:1]) * rng.uniform(1, 5) * np.exp(-time / rng.uniform(0.03, 0.2))
    click = rng.standard_normal(len(tone)) * np.exp(-time / rng.uniform(0.001, 0.006)) * np.abs(tone).max()
    made = tone + snap * (bright + rng.uniform(0.1, 0.6) * click)
    strength, made_strength = (float(np.sqrt(np.mean(signal**2))) for signal in (tone, made))
    level: np.ndarray = (made * (strength / (made_strength + 1e-9))).astype(np.float32)
    return level


def _voice(rng: np.random.Generator) -> np.ndarray | None:
    """Gains in dB of harmonics 0 to HARMONICS: another string, pluck and pickup. None for as it is."""
    if rng.random() >= REVOICED:
        return None
    harmonics = np.arange(HARMONICS + 1)
    rough_db, smooth_db = rng.uniform(0, 7), rng.uniform(0, 5)
    gain_db = rng.normal(0, rough_db, len(harmonics))
    octaves = np.arange(6)
    gain_db += np.interp(np.log2(np.maximum(harmonics, 1)), octaves, rng.normal(0, smooth_db, len(octaves)))
    if rng.random() < 0.4:
        gain_db += 20 * np.log10(0.1 + np.abs(np.sin(np.pi * harmonics * rng.uniform(0.05, 0.45))))
    gain_db[0] = gain_db[1]
    return gain_db


def _revoiced(rng: np.random.Generator, tone: np.ndarray, pitch: float, voice: np.ndarray) -> np.ndarray:
    """A note with the gains of `voice` at its harmonics, each a little off, and as strong as before."""
    from scipy import fft

    frames = fft.next_fast_len(len(tone) + 2048, real=True)
    harmonic = np.arange(frames // 2 + 1) * (SAMPLE_RATE / frames) / (440.0 * 2 ** ((pitch - 69) / 12))
    gain_db = np.interp(harmonic, np.arange(len(voice)), voice + rng.normal(0, 1.0, len(voice)))
    made = fft.irfft(fft.rfft(tone, frames) * (10 ** (gain_db / 20)).astype(np.float32), frames)[: len(tone)]
    strength, made_strength = (float(np.sqrt(np.mean(signal**2))) for signal in (tone, made))
    level: np.ndarray = made * np.float32(strength / (made_strength + 1e-9))
    return level


def amplify(rng: np.random.Generator, dry: np.ndarray, role: str) -> np.ndarray:
    """A part through a random amp, float32 (frames,), its RMS about 0.1 while it sounds; silence stays silent."""
    return _level(_amp(rng, role)(dry[np.newaxis], SAMPLE_RATE)[0]) if dry.any() else dry


def _amp(rng: np.random.Generator, role: str) -> Callable[..., np.ndarray]:
    """A random board: drive, cabinet, compression, modulation, room."""
    import pedalboard as pb
    from pedalboard._pedalboard import Pedalboard  # the package itself does not list it as its own

    def maybe(chance: float, *effects: pb.Plugin) -> list[pb.Plugin]:
        return list(effects) if rng.random() < chance else []

    bass = role == "bass"
    drive_db = rng.uniform(0, 12) if bass else rng.uniform(3, 34)
    cabinet_hz = 10 ** (rng.uniform(2.9, 3.7) if bass else rng.uniform(3.3, 3.8))
    return Pedalboard(
        [
            *maybe(
                0.4, pb.Compressor(rng.uniform(-34, -18), rng.uniform(2, 8), rng.uniform(1, 30), rng.uniform(40, 250))
            ),
            *maybe(
                0.3 if bass else 0.55,
                pb.HighpassFilter(rng.uniform(30, 60) if bass else rng.uniform(50, 200)),
                pb.Distortion(drive_db),
                pb.Gain(-0.6 * drive_db),
            ),
            *maybe(
                0.6,
                pb.LowpassFilter(cabinet_hz),
                pb.LowpassFilter(min(cabinet_hz * rng.uniform(1, 2), 0.4 * SAMPLE_RATE)),
            ),
            *maybe(0.5, pb.PeakFilter(10 ** rng.uniform(1.9, 3.4), rng.uniform(-9, 9), rng.uniform(0.4, 2.0))),
            *maybe(0.3, pb.LowShelfFilter(rng.uniform(80, 250), rng.uniform(-8, 6), 0.7)),
            *maybe(
                0.05 if bass else 0.15,
                pb.Chorus(rng.uniform(0.2, 2.5), rng.uniform(0.05, 0.4), 7.0, 0.0, rng.uniform(0.2, 0.5)),
            ),
            *maybe(
                0.02 if bass else 0.12, pb.Delay(rng.uniform(0.08, 0.45), rng.uniform(0, 0.4), rng.uniform(0.1, 0.35))
            ),
            *maybe(
                0.1 if bass else 0.3,
                pb.Reverb(
                    rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.9), rng.uniform(0.03, 0.25), rng.uniform(0.6, 1.0), 0.0
                ),
            ),
        ]
    )


def _level(stem: np.ndarray) -> np.ndarray:
    """Scaled to an RMS of 0.1 over the half-seconds within 30 dB of the loudest, but to a peak of at most 0.99."""
    hop = SAMPLE_RATE // 2
    power = np.square(stem[: len(stem) - len(stem) % hop], dtype=np.float64).reshape(-1, hop).mean(axis=1)
    rms = np.sqrt(power[power > power.max() * 1e-3].mean()) if power.max() > 0 else 0.0
    gain = min(0.1 / rms, 0.99 / float(np.abs(stem).max())) if rms > 1e-7 else 0.0
    return (stem * gain).astype(np.float32)
