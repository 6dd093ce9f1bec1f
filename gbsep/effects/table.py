"""The effects that a chain can hold: one table, from which checks, help text and JSON Schema are derived.

Conventions: effects and parameters carry Pedalboard's own names and defaults, units are suffixes of our own names.
The ranges are ours: inside them every effect gives finite audio for finite audio, while Pedalboard itself accepts NaN,
a negative cut-off, or a feedback that never dies. `Butterworth` and `Ducker` are gbsep's own (butterworth.py,
ducker.py); all others are Pedalboard's and are run by builtin.py.

A new effect of Pedalboard's is a row of EFFECTS. The validator of presets, their JSON Schema and the checks follow.
Reference: https://spotify.github.io/pedalboard/reference/pedalboard.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..arguments import checked
from ..errors import ParameterError, nearest, similar
from ..params import Param


@dataclass(frozen=True)
class EffectSpec:
    """A row of the table. `streams`: can be fed block by block. `sample_rates`: those it works at, if not all."""

    name: str
    summary: str
    params: tuple[Param, ...] = ()
    streams: bool = True
    sample_rates: tuple[int, ...] = ()

    def param(self, name: str) -> Param:
        """The parameter of that name; ParameterError with the nearest name when there is none."""
        for param in self.params:
            if param.name == name:
                return param
        known = [param.name for param in self.params] + ["wet"]
        raise ParameterError(name, self.name, f"{self.name} has no such parameter{nearest(name, known)}")

    @property
    def help(self) -> str:
        return "\n".join([f"{self.name}: {self.summary}", *(f"  {param.help}" for param in self.params)])


def _number(name: str, unit: str, low: float, high: float, default: float, automatable: bool = True) -> Param:
    return Param(name, unit, low, high, default, automatable=automatable)


def _cutoff(name: str, default: float | None) -> Param:
    return Param(name, "Hz", 1.0, 96_000.0, default, automatable=True, cutoff=True)


def _choice(name: str, choices: tuple[str, ...], default: str) -> Param:
    return Param(name, default=default, kind="choice", choices=choices)


_QUALITIES = (
    *("ZeroOrderHold", "Linear", "CatmullRom", "Lagrange", "WindowedSinc", "WindowedSinc256", "WindowedSinc128"),
    *("WindowedSinc64", "WindowedSinc32", "WindowedSinc16", "WindowedSinc8"),
)
_LADDER_MODES = ("LPF12", "HPF12", "BPF12", "LPF24", "HPF24", "BPF24")
_SHELF = (
    _cutoff("cutoff_frequency_hz", 440.0),
    _number("gain_db", "dB", -60.0, 60.0, 0.0),
    _number("q", "", 0.025, 100.0, 0.7071067690849304),
)
_FEEDBACK = _number("feedback", "", -0.99, 0.99, 0.0)
_MIX = _number("mix", "", 0.0, 1.0, 0.5)
_THRESHOLD = _number("threshold_db", "dB", -120.0, 0.0, 0.0)
_ATTACK = _number("attack_ms", "ms", 0.01, 10_000.0, 1.0)
_RELEASE = _number("release_ms", "ms", 0.1, 10_000.0, 100.0)

WET = _number("wet", "", 0.0, 1.0, 1.0)
"""Every effect also takes this: the share of its output, the rest being its input."""

MIX_DB = _number("mix_db", "dB", -120.0, 24.0, 0.0)
"""The level of a branch of Parallel."""

EFFECTS = {
    spec.name: spec
    for spec in (
        EffectSpec("Bitcrush", "reduces the bit depth", (_number("bit_depth", "bits", 1.0, 32.0, 8.0),)),
        EffectSpec(
            "BrickwallLimiter",
            "a limiter that looks ahead; safe against inter-sample peaks with true_peak",
            (
                _number("ceiling_db", "dB", -60.0, 0.0, -1.0),
                _RELEASE,
                _number("lookahead_ms", "ms", 0.1, 100.0, 5.0, automatable=False),
                Param("true_peak", default=False, kind="bool"),
            ),
        ),
        EffectSpec(
            "Butterworth",
            "a true Butterworth filter; causal, or zero-phase with twice the slope",
            (
                Param("mode", kind="choice", choices=("lowpass", "highpass")),
                _cutoff("cutoff_hz", None),
                Param("order", "", 1, 8, 4, kind="int"),
                Param("zero_phase", default=False, kind="bool"),
            ),
        ),
        EffectSpec(
            "Chorus",
            "a modulated delay mixed with the input",
            (
                _number("rate_hz", "Hz", 0.0, 99.0, 1.0),
                _number("depth", "", 0.0, 1.0, 0.25),
                _number("centre_delay_ms", "ms", 1.0, 100.0, 7.0),
                _FEEDBACK,
                _MIX,
            ),
        ),
        EffectSpec("Clipping", "cuts peaks off at a level", (_number("threshold_db", "dB", -100.0, 0.0, -6.0),)),
        EffectSpec(
            "Compressor",
            "turns down what is above a threshold; the channels are not linked",
            (_THRESHOLD, _number("ratio", "", 1.0, 1000.0, 1.0), _ATTACK, _RELEASE),
        ),
        EffectSpec(
            "Convolution",
            "convolves with an impulse response from a file, its energy made equal to one",
            (Param("impulse_response_filename", kind="path"), _number("mix", "", 0.0, 1.0, 1.0)),
        ),
        EffectSpec(
            "Delay",
            "echoes",
            (
                _number("delay_seconds", "s", 0.0, 30.0, 0.5),
                _number("feedback", "", 0.0, 0.99, 0.0),
                _MIX,
            ),
        ),
        EffectSpec("Distortion", "tanh saturation", (_number("drive_db", "dB", -60.0, 100.0, 25.0),)),
        EffectSpec(
            "Ducker",
            "a compressor whose key is another stem, as it is before its own chain; the channels are linked",
            (
                Param("sidechain", kind="stem"),
                _number("threshold_db", "dB", -120.0, 0.0, -30.0),
                _number("ratio", "", 1.0, 1000.0, 4.0),
                _ATTACK,
                _RELEASE,
                _number("range_db", "dB", 0.0, 120.0, 24.0),
            ),
        ),
        EffectSpec(
            "GSMFullRateCompressor",
            "the sound of a mobile phone of 1990",
            (_choice("quality", _QUALITIES, "WindowedSinc8"),),
            streams=False,
        ),
        EffectSpec("Gain", "a gain; silence at -100 dB", (_number("gain_db", "dB", -100.0, 60.0, 1.0),)),
        EffectSpec("HighShelfFilter", "equalizer: raises or lowers what is above the cut-off", _SHELF),
        EffectSpec("HighpassFilter", "first-order high-pass, 6 dB per octave", (_cutoff("cutoff_frequency_hz", 50.0),)),
        EffectSpec("Invert", "turns the polarity round"),
        EffectSpec(
            "LadderFilter",
            "a Moog-style ladder filter",
            (
                _choice("mode", _LADDER_MODES, "LPF12"),
                _cutoff("cutoff_hz", 200.0),
                _number("resonance", "", 0.0, 1.0, 0.0),
                _number("drive", "", 1.0, 100.0, 1.0),
            ),
        ),
        EffectSpec(
            "Limiter",
            "a maximizer: raises to full scale what is limited at the threshold; for a ceiling use BrickwallLimiter",
            (_number("threshold_db", "dB", -60.0, 0.0, -10.0), _RELEASE),
        ),
        EffectSpec("LowShelfFilter", "equalizer: raises or lowers what is below the cut-off", _SHELF),
        EffectSpec("LowpassFilter", "first-order low-pass, 6 dB per octave", (_cutoff("cutoff_frequency_hz", 50.0),)),
        EffectSpec(
            "MP3Compressor",
            "what an MP3 leaves of the sound",
            (_number("vbr_quality", "", 0.0, 9.9, 2.0, automatable=False),),
            sample_rates=(8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        ),
        EffectSpec(
            "NoiseGate",
            "turns down what is below a threshold",
            (
                _number("threshold_db", "dB", -120.0, 0.0, -100.0),
                _number("ratio", "", 1.0, 1000.0, 10.0),
                _ATTACK,
                _RELEASE,
            ),
        ),
        EffectSpec("PeakFilter", "equalizer: raises or lowers a band", _SHELF),
        EffectSpec(
            "Phaser",
            "swept all-pass filters mixed with the input",
            (
                _number("rate_hz", "Hz", 0.0, 99.0, 1.0),
                _number("depth", "", 0.0, 1.0, 0.5),
                _cutoff("centre_frequency_hz", 1300.0),
                _FEEDBACK,
                _MIX,
            ),
        ),
        EffectSpec(
            "PitchShift",
            "shifts the pitch, keeps the tempo",
            (_number("semitones", "semitones", -72.0, 72.0, 0.0, automatable=False),),
            streams=False,
        ),
        EffectSpec(
            "Resample",
            "to another sample rate and back, for the sound of it",
            (
                _number("target_sample_rate", "Hz", 1000.0, 192_000.0, 8000.0, automatable=False),
                _choice("quality", _QUALITIES, "WindowedSinc32"),
            ),
        ),
        EffectSpec(
            "Reverb",
            "a room",
            (
                _number("room_size", "", 0.0, 1.0, 0.5),
                _number("damping", "", 0.0, 1.0, 0.5),
                _number("wet_level", "", 0.0, 1.0, 0.33),
                _number("dry_level", "", 0.0, 1.0, 0.4),
                _number("width", "", 0.0, 1.0, 1.0),
                _number("freeze_mode", "", 0.0, 1.0, 0.0),
            ),
        ),
    )
}


NAMES = tuple(sorted((*EFFECTS, "Parallel", "Plugin")))
"""Everything that a chain can hold."""

_EQUALIZERS = ("PeakFilter", "LowShelfFilter", "HighShelfFilter")
COMMON = {
    **dict.fromkeys(("eq", "equalizer", "equaliser", "parametriceq"), _EQUALIZERS),
    **dict.fromkeys(("bell", "peak", "notch"), ("PeakFilter",)),
    **dict.fromkeys(("shelf", "tone"), _EQUALIZERS[1:]),
    **dict.fromkeys(("highcut", "lpf"), ("LowpassFilter", "Butterworth")),
    **dict.fromkeys(("lowcut", "hpf"), ("HighpassFilter", "Butterworth")),
    "filter": ("LowpassFilter", "HighpassFilter", "Butterworth", "LadderFilter"),
    **dict.fromkeys(("overdrive", "drive", "fuzz", "saturation"), ("Distortion",)),
    **dict.fromkeys(("cabinet", "cab", "ir"), ("Convolution",)),
    **dict.fromkeys(("volume", "level"), ("Gain",)),
    **dict.fromkeys(("vst", "vst3", "au"), ("Plugin",)),
    "sidechain": ("Ducker",),
    "echo": ("Delay",),
    "gate": ("NoiseGate",),
    "maximizer": ("Limiter",),
    "octaver": ("PitchShift",),
}
"""What people call effects that have another name here, in small letters without blanks."""


def meant(name: str) -> tuple[str, ...]:
    """The effect of that name in any case, or those that people call so; none where there is none.

    >>> meant("compressor"), meant("Low Cut"), meant("nothing")
    (('Compressor',), ('HighpassFilter', 'Butterworth'), ())
    """
    said = "".join(letter for letter in name.casefold() if letter not in " -_")
    alike = tuple(known for known in NAMES if known.casefold() == said)
    return alike or COMMON.get(said, ())


def effect_hint(name: str) -> str:
    """A hint for an effect that there is not: the likely ones, or where their names are.

    >>> effect_hint("EQ")
    "; did you mean 'PeakFilter', 'LowShelfFilter' or 'HighShelfFilter'?"
    """
    if likely := meant(name):
        *more, last = map(repr, likely)
        return f"; did you mean {', '.join(more)}{' or ' if more else ''}{last}?"
    return similar(name, NAMES) or "; gbsep effects list has all names"


@checked
def spec_of(name: str) -> EffectSpec:
    """The row of that name; ParameterError with the likely names when there is none."""
    if name not in EFFECTS:
        raise ParameterError("effect", name, f"no effect of that name{effect_hint(name)}")
    return EFFECTS[name]


def is_lowpass(name: str, params: Mapping[str, Any]) -> bool:
    """Whether the effect leaves everything as it is when its cut-off lies above half the sample rate."""
    return name == "LowpassFilter" or params.get("mode") in ("lowpass", "LPF12", "LPF24")
