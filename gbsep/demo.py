"""The demo song: two guitars and a bass, played by plucked-string models, with their true stems.

It is there to try gbsep without a recording at hand and to hear what a stage does. It is a demo, never evidence of
quality: its strings are far more regular than played ones, and separators find them easier or harder than music.

The strings are extended Karplus-Strong: a burst of one period, coloured by the place and the strength of the pick,
runs round a loop with a one-pole low-pass, which makes the partials die away, and a third-order Lagrange fractional
delay, which tunes it. Each part goes through an amplifier (a soft clipper, oversampled) and a loudspeaker
(band limits and a presence peak), into its place between the loudspeakers, the guitars with a short room.

Stems lie on the grid of 24-bit PCM (whole multiples of 2**-23) and stay well under full scale, so every sum of them is
exact in float32, in any order, and so in a 24-bit file: mixture == bass + guitar and guitar == guitar1 + guitar2 to the
last bit. Where a part rests its stem is zero.

References: D. A. Jaffe and J. O. Smith, Extensions of the Karplus-Strong plucked-string algorithm, Computer Music
Journal 7(2), 1983. V. Valimaki et al., Physical modeling of plucked string instruments with application to real-time
sound synthesis, J. Audio Eng. Soc. 44(5), 1996: the one-pole loop filter. T. I. Laakso et al., Splitting the unit
delay, IEEE Signal Processing Magazine 13(1), 1996.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .audio import Audio
from .errors import OutputError, ParameterError

EIGHTH_S = 0.3125
"""96 beats a minute; a bar of eight is 2.5 s, the 24 bars of the song a minute."""

RELEASE_S = 0.04
OVERSAMPLING = 4
PCM_24_STEP = 2.0**-23


TREBLE_HZ = 2000.0
PRESENCE_HZ = (1800.0, 3600.0)
VIBRATO_HZ = 5.5


@dataclass(frozen=True)
class Instrument:
    """A string model, its amplifier and its place."""

    decay_s: float  # T60 of the lowest partials
    treble_decay_s: float  # T60 at TREBLE_HZ
    pick_position: float  # fraction of the string, from the bridge
    brightness_hz: float  # of a pluck at full strength
    drive: float  # into the clipper; 1 is nearly clean
    speaker_hz: tuple[float, float]
    presence: float  # gain of PRESENCE_HZ on top
    gain: float
    vibrato_cents: float = 0.0
    pan: float = 0.0  # -1 left, +1 right
    room: float = 0.0


BASS = Instrument(
    decay_s=6.0,
    treble_decay_s=0.3,
    pick_position=0.18,
    brightness_hz=600.0,
    drive=1.2,
    speaker_hz=(35.0, 2800.0),
    presence=0.3,
    gain=0.55,
)
GUITAR1 = Instrument(
    decay_s=4.0,
    treble_decay_s=0.8,
    pick_position=0.13,
    brightness_hz=1500.0,
    drive=1.0,
    speaker_hz=(80.0, 5200.0),
    presence=0.6,
    gain=0.32,
    pan=-0.55,
    room=0.10,
)
GUITAR2 = Instrument(
    decay_s=5.0,
    treble_decay_s=1.4,
    pick_position=0.10,
    brightness_hz=1800.0,
    drive=6.0,
    speaker_hz=(90.0, 4600.0),
    presence=0.5,
    gain=0.15,
    vibrato_cents=12.0,
    pan=0.45,
    room=0.16,
)

GUITAR_STRINGS = (40, 45, 50, 55, 59, 64)
CHORDS: dict[str, tuple[int, tuple[int | None, ...]]] = {  # root of the bass, frets from the lowest string
    "Em": (28, (0, 2, 2, 0, 0, 0)),
    "G": (31, (3, 2, 0, 0, 0, 3)),
    "Am": (33, (None, 0, 2, 2, 1, 0)),
    "B7": (35, (None, 2, 1, 2, 0, 2)),
    "C": (36, (None, 3, 2, 0, 1, 0)),
    "D": (38, (None, None, 0, 2, 3, 2)),
}
BASS_STEPS = {"1": 0, "5": 7, "8": 12}
PITCH_CLASSES = {"C": 0, "D": 2, "D#": 3, "E": 4, "F#": 6, "G": 7, "A": 9, "B": 11}

# A bar of eighths per line; "." holds, "-" rests. Rhythm guitar: D down, U up, m palm mute. Bass: 1 root, 5 fifth,
# 8 octave of the chord. The lead's last bars are the verse's tune an octave up.
SONG = [
    tuple(field.strip() for field in line.split("|"))
    for line in """
    Em | m m m m m m m m | - - - - - - - - | - - - - - - - -
    C  | m m m m m m m m | - - - - - - - - | - - - - - - - -
    G  | m m m m m m m m | 1 . . . . . . . | - - - - - - - -
    D  | m m m m D . . . | 1 . . . 1 . 5 8 | - - - - - - - -
    Em | D . D U . U D U | 1 . . 1 1 . 5 . | - - - - - - - -
    C  | D . D U . U D U | 1 . . 1 1 . 5 8 | - - - - - - - -
    G  | D . D U . U D U | 1 . . 1 1 . 5 . | - - - - - - - -
    D  | D . D U . U D . | 1 . . 1 1 5 8 5 | - - - - A3 B3 D4 .
    Em | D . D U . U D U | 1 . . 1 1 . 5 . | B4 . . A4 G4 . E4 .
    C  | D . D U . U D U | 1 . . 1 1 . 5 8 | G4 . A4 . G4 . E4 .
    G  | D . D U . U D U | 1 . . 1 1 . 5 . | D4 . . E4 G4 . B4 .
    D  | D . D U . U D . | 1 . . 1 1 . - - | A4 . . . F#4 . - -
    Am | m m m m m m m m | - - - - - - - - | E4 . C4 . A3 . . .
    C  | m m m m m m m m | - - - - - - - - | G4 . E4 . C4 . . .
    Em | m m m m m m m m | - - - - - - - - | B3 . E4 . G4 . B4 .
    B7 | m m m m D . . . | - - - - - - - - | A4 . F#4 . D#4 . . .
    Em | D . D U . U D U | 1 . 1 8 . 5 1 5 | B5 . . A5 G5 . E5 .
    C  | D . D U . U D U | 1 . 1 8 . 5 1 5 | G5 . A5 . G5 . E5 .
    G  | D . D U . U D U | 1 . 1 8 . 5 1 5 | D5 . . E5 G5 . B5 .
    D  | D . D U . U D U | 1 . 1 8 . 5 8 5 | A5 . . . F#5 . D5 .
    C  | D . D U . U D U | 1 . 1 8 . 5 1 5 | E5 . G5 . B5 . A5 G5
    D  | D . D U . U D U | 1 . 1 8 . 5 8 5 | A5 . F#5 . A5 . D6 .
    B7 | D . D U D U D U | 1 1 1 1 5 5 8 5 | B5 . A5 . F#5 . D#5 .
    Em | D . . . . . . . | 1 . . . . . . . | E5 . . . . . . .
    """.strip().splitlines()
]
BAR_S = 8 * EIGHTH_S
ACCENTS = (1.0, 0.7, 0.85, 0.72, 0.95, 0.7, 0.85, 0.75)


@dataclass(frozen=True)
class Note:
    """A string plucked at `start_s` and stopped at `stop_s`; `pitch` is a MIDI number."""

    string: int
    pitch: int
    start_s: float
    stop_s: float
    velocity: float
    muted: bool = False


def make_demo(seconds: float = 60.0, sample_rate: int = 44100, seed: int = 0) -> tuple[Audio, dict[str, Audio]]:
    """The mixture and its true stems: bass, guitar1 (rhythm), guitar2 (lead), and guitar, their sum. All stereo.

    The song lasts a minute; less than that is its beginning, more begins it again. The seed moves what a player does
    not repeat: timing, strength, the sound of each pluck. The same arguments give the same samples.
    Making it takes 0.5 GB of memory a minute at 44.1 kHz.
    Raises ParameterError for seconds outside 0.1 to 300, a sample rate outside 8 to 192 kHz, or a negative seed.
    """
    if not 0.1 <= seconds <= 300.0:
        raise ParameterError("seconds", seconds, "from 0.1 to 300 s", "s")
    if not 8000 <= sample_rate <= 192000:
        raise ParameterError("sample_rate", sample_rate, "from 8000 to 192000 Hz", "Hz")
    if seed < 0:
        raise ParameterError("seed", seed, "0 or a positive whole number")
    frames = round(seconds * sample_rate)
    rngs = np.random.default_rng(seed).spawn(3)
    parts = {
        name: _produce(_damp(score(seconds, rng)), instrument, frames, sample_rate, rng)
        for (name, score, instrument), rng in zip(
            (("bass", _bass, BASS), ("guitar1", _rhythm, GUITAR1), ("guitar2", _lead, GUITAR2)), rngs, strict=True
        )
    }
    parts["guitar"] = parts["guitar1"] + parts["guitar2"]
    mixture = Audio(parts["bass"] + parts["guitar"], sample_rate)
    return mixture, {name: Audio(part, sample_rate) for name, part in parts.items()}


def write_demo(
    folder: str | Path, seconds: float = 60.0, sample_rate: int = 44100, seed: int = 0, overwrite: bool = False
) -> dict[str, Path]:
    """Write mixture.wav and the stems of `make_demo` into `folder`, made if need be, as float32 WAV; the paths by name.

    Raises OutputError when a file of that name is there already (unless `overwrite`), or the folder cannot be made;
    AudioFileError when a file cannot be written.
    """
    from .io.formats import OutputFormat
    from .io.write import write

    folder = Path(folder)
    paths = {name: folder / f"{name}.wav" for name in ("mixture", "bass", "guitar", "guitar1", "guitar2")}
    for path in paths.values():
        if os.path.exists(path) and not overwrite:
            raise OutputError(path, "is there already; choose another folder, or give --overwrite")
    mixture, stems = make_demo(seconds, sample_rate, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be made: {error.strerror}") from None
    for name, audio in {"mixture": mixture, **stems}.items():
        write(paths[name], audio, OutputFormat("wav", "float32"))
    return paths


def pluck(
    frequency_hz: float,
    seconds: float,
    sample_rate: int,
    rng: np.random.Generator,
    decay_s: float = 4.0,
    treble_decay_s: float = 1.0,
    pick_position: float = 0.13,
    brightness_hz: float = 2500.0,
) -> np.ndarray:
    """One pluck of a string at `frequency_hz`, float64, shape (frames,), RMS 1 in its first period.

    `decay_s` is the time in which the lowest partials fall by 60 dB; `treble_decay_s`, shorter, the same at TREBLE_HZ.
    """
    from scipy.signal import freqz, lfilter

    period = sample_rate / frequency_hz
    pole = _loop_pole(frequency_hz, sample_rate, decay_s, treble_decay_s)
    w0 = 2 * np.pi / period
    low_pass_delay = -np.angle(freqz([1 - pole], [1, -pole], [w0])[1][0]) / w0
    line = int(period - low_pass_delay - 1.0)  # leaves 1 to 2 frames to the fractional delay, where Lagrange is best
    loss: float = 10.0 ** (-3.0 / (frequency_hz * decay_s))
    taps = loss * (1 - pole) * _lagrange(period - low_pass_delay - line)

    partials = np.arange(line // 2 + 1)
    spectrum = np.exp(2j * np.pi * rng.random(partials.size)) / (1 + 1j * partials * frequency_hz / brightness_hz)
    burst = np.fft.irfft(spectrum * (1 - np.exp(-2j * np.pi * pick_position * partials)), line)
    turn = burst / np.sqrt(np.mean(burst**2))

    # The loop reaches back a whole line, so that a line at a time can be computed.
    turns, state = [], np.zeros(len(taps) - 1)
    for _ in range(math.ceil(seconds * sample_rate / line)):
        turns.append(turn)
        turn, state = lfilter(taps, [1, -pole], turn, zi=state)
    return np.concatenate(turns)[: round(seconds * sample_rate)]


def _loop_pole(frequency_hz: float, sample_rate: int, decay_s: float, treble_decay_s: float) -> float:
    """Pole of the one-pole low-pass whose loss per period makes the decay at TREBLE_HZ so much shorter."""
    loss: float = 10.0 ** (-6.0 / frequency_hz * (1.0 / treble_decay_s - 1.0 / decay_s))  # of power
    b = 1.0 - loss * math.cos(2 * math.pi * TREBLE_HZ / sample_rate)
    return (b - math.sqrt(b * b - (1.0 - loss) ** 2)) / (1.0 - loss)


def _lagrange(delay: float) -> np.ndarray:
    """The four taps of the third-order Lagrange fractional delay."""
    return np.array([math.prod((delay - m) / (k - m) for m in range(4) if m != k) for k in range(4)])


def _bars(seconds: float) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Start time and line of the score for each bar that begins before `seconds`."""
    for number in range(math.ceil(seconds / BAR_S)):
        yield number * BAR_S, SONG[number % len(SONG)]


def _strokes(start_s: float, line: str, rng: np.random.Generator) -> Iterator[tuple[str, float, float, float]]:
    """(symbol, start_s, stop_s, velocity) for each symbol of a bar that is played, with a player's inaccuracy."""
    symbols = line.split()
    for place, symbol in enumerate(symbols):
        if symbol not in ".-":
            held = next((n for n in range(place + 1, 8) if symbols[n] != "."), 8)
            early_s, strength = 0.004 * rng.standard_normal(), 1.0 + 0.08 * rng.standard_normal()
            begin_s = max(0.0, start_s + place * EIGHTH_S + early_s)
            yield symbol, begin_s, start_s + held * EIGHTH_S, ACCENTS[place] * strength


def _bass(seconds: float, rng: np.random.Generator) -> Iterator[Note]:
    for start_s, (chord, _, line, _) in _bars(seconds):
        for symbol, begin_s, stop_s, velocity in _strokes(start_s, line, rng):
            yield Note(0, CHORDS[chord][0] + BASS_STEPS[symbol], begin_s, stop_s, velocity)


def _lead(seconds: float, rng: np.random.Generator) -> Iterator[Note]:
    for start_s, (*_, line) in _bars(seconds):
        for symbol, begin_s, stop_s, velocity in _strokes(start_s, line, rng):
            yield Note(0, 12 * (int(symbol[-1]) + 1) + PITCH_CLASSES[symbol[:-1]], begin_s, stop_s, velocity)


def _rhythm(seconds: float, rng: np.random.Generator) -> Iterator[Note]:
    """Down strokes sweep all strings of the chord, up strokes the upper four, palm mutes hit the lowest three."""
    for start_s, (chord, line, _, _) in _bars(seconds):
        strings = [(n, GUITAR_STRINGS[n] + fret) for n, fret in enumerate(CHORDS[chord][1]) if fret is not None]
        hit = {"D": strings, "U": strings[:-5:-1], "m": strings[:3]}
        for symbol, begin_s, stop_s, velocity in _strokes(start_s, line, rng):
            muted = symbol == "m"
            ends_s = stop_s if muted else start_s + BAR_S  # open strings ring until they are struck again
            for order, (string, pitch) in enumerate(hit[symbol]):
                yield Note(string, pitch, begin_s + 0.009 * order, ends_s, velocity * 0.95**order, muted)


def _damp(notes: Iterator[Note]) -> list[Note]:
    """The notes in order, each stopped where its string is plucked again."""
    damped: list[Note] = []
    next_s: dict[int, float] = {}
    for note in sorted(notes, key=lambda note: note.start_s, reverse=True):
        damped.append(replace(note, stop_s=min(note.stop_s, next_s.get(note.string, math.inf))))
        next_s[note.string] = note.start_s
    return damped[::-1]


def _produce(
    notes: list[Note], instrument: Instrument, frames: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """The finished part: float32, shape (2, frames), on the grid of 24-bit PCM."""
    mono = _amplify(_play(notes, instrument, frames, sample_rate, rng), instrument, sample_rate)
    angle = (instrument.pan + 1.0) * np.pi / 4.0
    stereo = np.array([[np.cos(angle)], [np.sin(angle)]]) * mono
    if instrument.room:
        from scipy.signal import oaconvolve

        times_s = np.arange(round(0.3 * sample_rate)) / sample_rate
        echoes = rng.standard_normal((2, times_s.size)) * np.exp(-times_s / 0.05) / np.sqrt(0.025 * sample_rate)
        stereo += instrument.room * oaconvolve(mono[np.newaxis], echoes, axes=1)[:, :frames]
    fade = np.clip((frames - np.arange(frames)) / (0.5 * sample_rate), 0.0, 1.0)
    steps: np.ndarray = np.round(instrument.gain * stereo * fade / PCM_24_STEP)
    return (steps * PCM_24_STEP).astype(np.float32)


def _play(
    notes: list[Note], instrument: Instrument, frames: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """All strings of one instrument as its pickup hears them, shape (frames,)."""
    picked_up = np.zeros(frames)
    for note in notes:
        first, rate = round(note.start_s * sample_rate), 0.15 if note.muted else 1.0
        tone = pluck(
            440.0 * 2.0 ** ((note.pitch - 69) / 12.0),
            note.stop_s - note.start_s + RELEASE_S,
            sample_rate,
            rng,
            instrument.decay_s * rate,
            instrument.treble_decay_s * rate,
            instrument.pick_position * (1.0 + 0.1 * rng.standard_normal()),
            instrument.brightness_hz * note.velocity * (0.5 if note.muted else 1.0),
        )
        times_s = np.arange(tone.size) / sample_rate
        if instrument.vibrato_cents:
            depth_s = math.log(2.0) * instrument.vibrato_cents / 1200.0 / (2 * np.pi * VIBRATO_HZ)
            growing = np.clip(times_s / 0.4 - 0.5, 0.0, 1.0)
            tone = np.interp(times_s + depth_s * growing * np.sin(2 * np.pi * VIBRATO_HZ * times_s), times_s, tone)
        tone *= note.velocity * np.clip((times_s[-1] - times_s) / RELEASE_S, 0.0, 1.0)
        picked_up[first : first + tone.size] += 0.25 * tone[: max(frames - first, 0)]
    return picked_up


def _amplify(picked_up: np.ndarray, instrument: Instrument, sample_rate: int) -> np.ndarray:
    """Soft clipping and the colour of a loudspeaker, oversampled against aliasing; shape kept."""
    from scipy.signal import butter, resample_poly, sosfilt

    fs = OVERSAMPLING * sample_rate
    clipped = np.tanh(instrument.drive * resample_poly(picked_up, OVERSAMPLING, 1))
    speaker = sosfilt(butter(2, instrument.speaker_hz, "bandpass", fs=fs, output="sos"), clipped)
    presence = sosfilt(butter(1, PRESENCE_HZ, "bandpass", fs=fs, output="sos"), speaker)
    amplified: np.ndarray = resample_poly(speaker + instrument.presence * presence, 1, OVERSAMPLING)
    return amplified[: picked_up.size]
