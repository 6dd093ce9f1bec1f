"""What the architectures of the family take, each argument with its bounds, and how the rest of a file is meant.

ARCHITECTURES is the table: a row says which section of the file holds the arguments, what they may be, and what the
other sections mean for it. The bounds are far above all that is published and far below what would exhaust a machine
before the network is compared with the tensors of its checkpoint.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ...schema import Lenient, Misplaced, StrictModel

Size = Annotated[int, Field(ge=1, le=4096)]
Depth = Annotated[int, Field(ge=1, le=48)]
Few = Annotated[int, Field(ge=1, le=8)]
Fft = Annotated[int, Field(ge=64, le=2**14)]
Hop = Annotated[int, Field(ge=16, le=2**13)]
Channels = Annotated[int, Field(ge=1, le=2)]
Width = Annotated[int, Field(ge=2, le=2048)]
Step = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

MAX_BAND_LAYERS = 24_000
"""Layers of all mask estimators together."""

IGNORED = frozenset({"type", "model_type", "architecture"})
"""Keys of a section of arguments that name the architecture."""


class Training(Lenient):
    """Of the section `training` that which decides what comes out."""

    instruments: list[str]
    target_instrument: str | None = None
    samplerate: Annotated[int, Field(ge=8000, le=192_000)] | None = None
    channels: Channels = 2
    segment: Annotated[float, Field(ge=0.1, le=120)] | None = None


class Audio(Lenient):
    """The section `audio`."""

    sample_rate: Annotated[int, Field(ge=8000, le=192_000)] = 44100
    chunk_size: Annotated[int, Field(ge=256, le=2**25)] | None = None
    num_channels: Channels = 2
    n_fft: Fft = 2048
    hop_length: Hop = 512
    dim_f: Annotated[int, Field(ge=1, le=2**13 + 1)] | None = None


class Inference(Lenient):
    """The section `inference`."""

    chunk_size: Annotated[int, Field(ge=256, le=2**25)] | None = None
    num_overlap: Annotated[int, Field(ge=1, le=64)] | None = None
    overlap_size: Annotated[int, Field(ge=0, le=2**25)] | None = None
    normalize: bool | None = None


class _Roformer(StrictModel):
    dim: Annotated[int, Field(ge=8, le=2048)]
    depth: Depth
    stereo: bool = False
    num_stems: Annotated[int, Field(ge=1, le=64)] = 1
    time_transformer_depth: Few = 2
    freq_transformer_depth: Few = 2
    dim_head: Annotated[int, Field(ge=2, le=512)] = 64
    heads: Annotated[int, Field(ge=1, le=64)] = 8
    flash_attn: bool = True
    stft_n_fft: Fft = 2048
    stft_hop_length: Hop = 512
    stft_win_length: Fft = 2048
    stft_normalized: bool = False
    mask_estimator_depth: Few = 2
    mlp_expansion_factor: Annotated[int, Field(ge=1, le=16)] = 4
    zero_dc: bool = False
    skip_connection: bool = False
    norm_output: bool | None = None

    @model_validator(mode="after")
    def _spectrum_and_size(self) -> _Roformer:
        if self.dim_head % 2:
            raise Misplaced("dim_head", f"must be even, not {self.dim_head}")
        if self.stft_win_length > self.stft_n_fft or self.stft_hop_length > self.stft_win_length:
            raise Misplaced("stft_win_length", "must lie between stft_hop_length and stft_n_fft")
        if self.num_stems * self.bands() * self.mask_estimator_depth > MAX_BAND_LAYERS:
            raise Misplaced(
                "num_stems", f"times bands and mask_estimator_depth makes more than {MAX_BAND_LAYERS} layers"
            )
        return self

    @abstractmethod
    def bands(self) -> int:
        """Into how many bands the spectrum is cut."""


class BSRoformer(_Roformer):
    """BS-RoFormer: bands of fixed widths."""

    freqs_per_bands: list[Annotated[int, Field(ge=1, le=2**13)]] = Field(
        [*[2] * 24, *[4] * 12, *[12] * 8, *[24] * 8, *[48] * 8, 128, 129], min_length=2, max_length=512
    )
    use_shared_bias: bool = False
    use_pope: bool = False

    def bands(self) -> int:
        return len(self.freqs_per_bands)

    @model_validator(mode="after")
    def _all_bins(self) -> BSRoformer:
        if sum(self.freqs_per_bands) != self.stft_n_fft // 2 + 1:
            bins, given = self.stft_n_fft // 2 + 1, sum(self.freqs_per_bands)
            raise Misplaced("freqs_per_bands", f"must add up to {bins} by stft_n_fft, not to {given}")
        return self


class MelBandRoformer(_Roformer):
    """MelBand-RoFormer: overlapping bands on the mel scale."""

    num_bands: Annotated[int, Field(ge=2, le=512)] = 60
    sample_rate: Annotated[int, Field(ge=8000, le=192_000)] = 44100
    mask_estimator_depth: Few = 1
    match_input_audio_length: bool = False

    def bands(self) -> int:
        return self.num_bands


class SCNet(StrictModel):
    """SCNet: sub-bands of a spectrogram, compressed more the higher they lie."""

    sources: Annotated[list[str], Field(min_length=1, max_length=64)]
    audio_channels: Channels = 2
    dims: list[Width] = Field([4, 32, 64, 128], min_length=2, max_length=8)
    nfft: Fft = 4096
    hop_size: Hop = 1024
    win_size: Fft = 4096
    normalized: bool = True
    band_SR: list[Share] = Field([0.175, 0.392, 0.433], min_length=3, max_length=3)
    band_stride: list[Step] = Field([1, 4, 16], min_length=3, max_length=3)
    band_kernel: list[Step] = Field([3, 4, 16], min_length=3, max_length=3)
    conv_depths: list[Few] = Field([3, 2, 1], min_length=3, max_length=3)
    compress: Annotated[float, Field(ge=0.25, le=64)] = 4
    conv_kernel: Annotated[int, Field(ge=1, le=31)] = 3
    num_dplayer: Annotated[int, Field(ge=1, le=32)] = 6
    expand: Annotated[int, Field(ge=1, le=8)] = 1

    @model_validator(mode="after")
    def _first_width(self) -> SCNet:
        if self.dims[0] != 2 * self.audio_channels:
            raise Misplaced(
                "dims", f"must begin with {2 * self.audio_channels}, two for each channel, not with {self.dims[0]}"
            )
        return self


class MDX23C(StrictModel):
    """MDX23C (TFC-TDF v3): a U-Net on sub-bands of a spectrogram."""

    act: Annotated[str, Field(pattern=r"^(gelu|relu|elu\d{1,2}(\.\d{1,4})?)$")]
    norm: Annotated[str, Field(pattern=r"^(BatchNorm|InstanceNorm|GroupNorm[1-9]\d{0,2})$")]
    num_channels: Size
    growth: Annotated[int, Field(ge=0, le=1024)]
    num_scales: Annotated[int, Field(ge=1, le=8)]
    scale: Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(min_length=2, max_length=2)]
    num_blocks_per_scale: Few
    bottleneck_factor: Annotated[int, Field(ge=1, le=64)]
    num_subbands: Annotated[int, Field(ge=1, le=64)]


class Bandit(StrictModel):
    """Bandit: recurrent networks over bands; speech, music and effects of films."""

    in_channel: Literal[1] = 1
    stems: Annotated[list[str], Field(min_length=1, max_length=64)]
    band_specs: Literal["musical", "mel", "tribark", "bark", "erb", "musdb:vox7", "dnr:vox7", "dnr:speech"] = "musical"
    n_bands: Annotated[int, Field(ge=2, le=256)] | None = 64
    fs: Annotated[int, Field(ge=8000, le=192_000)] = 44100
    require_no_overlap: bool = False
    require_no_gap: bool = True
    normalize_channel_independently: Literal[False] = False
    treat_channel_as_feature: Literal[True] = True
    n_sqm_modules: Depth = 12
    emb_dim: Size = 128
    rnn_dim: Size = 256
    bidirectional: bool = True
    rnn_type: Literal["LSTM", "GRU"] = "LSTM"
    mlp_dim: Size = 512
    hidden_activation: Literal["Tanh", "ReLU", "GELU"] = "Tanh"
    complex_mask: bool = True
    n_fft: Fft = 2048
    win_length: Fft = 2048
    hop_length: Hop = 512
    window_fn: Literal["hann_window"] = "hann_window"
    center: Literal[True] = True
    normalized: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    onesided: Literal[True] = True
    use_freq_weights: bool = True
    cond_dim: Literal[0] = 0
    mult_add_mask: Literal[False] = False


class HTDemucs(Lenient):
    """HTDemucs: its arguments are those of the package demucs, and checked where a Demucs network is built."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True)
class Architecture:
    """A row of ARCHITECTURES.

    section: where the arguments are. telling: keys of the section that no other architecture has. built_by: module and
    class in pymss_core.modules. ignored: arguments without a meaning once the network is trained. fixed: the network
    takes segments of one length only. channels, segment, hop, fft and count say what follows from the file for the
    input's channels, the frames of a segment, hop and length of its spectra and the number of outputs (None: as many as
    are named);
    `complete` adds what the network takes from other sections.
    """

    section: str
    telling: frozenset[str]
    built_by: tuple[str, str]
    arguments: type[StrictModel] | type[Lenient]
    channels: Callable[[Mapping[str, Any], Audio, Training], int]
    hop: Callable[[Mapping[str, Any], Audio], int]
    fft: Callable[[Mapping[str, Any], Audio], int]
    count: Callable[[Mapping[str, Any]], int | None]
    segment: Callable[[Audio, Training, Inference, int], int] = field(
        default=lambda audio, training, inference, rate: inference.chunk_size or audio.chunk_size or 0
    )
    complete: Callable[[dict[str, Any], Audio, Training, tuple[str, ...]], dict[str, Any]] = field(
        default=lambda arguments, audio, training, sources: arguments
    )
    ignored: frozenset[str] = frozenset()
    fixed: bool = False


_LOSSES = frozenset({
    "multi_stft_resolution_loss_weight", "multi_stft_resolutions_window_sizes", "multi_stft_hop_size",
    "multi_stft_normalized", "multi_stft_window_fn", "attn_dropout", "ff_dropout", "conv_dropout",
    "linear_transformer_depth", "use_torch_checkpoint", "sage_attention", "dim_freqs_in", "attention_layout",
})  # fmt: skip

_HTDEMUCS_INITIAL = frozenset({"dconv_init", "rescale", "emb_smooth", "t_lr", "t_weight_decay", "t_dropout"})


def _complete_mdx23c(
    arguments: dict[str, Any], audio: Audio, training: Training, sources: tuple[str, ...]
) -> dict[str, Any]:
    bins = audio.dim_f or audio.n_fft // 2
    divisor = arguments["num_subbands"] * arguments["scale"][1] ** arguments["num_scales"]
    if bins > audio.n_fft // 2 + 1 or bins % divisor:
        raise ValueError(f"audio.dim_f = {bins} must be a multiple of {divisor}, and at most half of audio.n_fft")
    spectra = {
        "n_fft": audio.n_fft,
        "hop_length": audio.hop_length,
        "dim_f": bins,
        "num_channels": audio.num_channels,
    }
    names = {"instruments": list(sources), "target_instrument": sources[0] if len(sources) == 1 else None}
    return {"config": {"audio": spectra, "model": arguments, "training": names}}


def _htdemucs_segment(audio: Audio, training: Training, inference: Inference, rate: int) -> int:
    return int(rate * training.segment) if training.segment else 0


ARCHITECTURES = {
    "bs_roformer": Architecture(
        "model", frozenset({"freqs_per_bands"}), ("bs_roformer", "BSRoformer"), BSRoformer,
        lambda arguments, audio, training: 2 if arguments["stereo"] else 1,
        lambda arguments, audio: int(arguments["stft_hop_length"]),
        lambda arguments, audio: int(arguments["stft_n_fft"]),
        lambda arguments: int(arguments["num_stems"]), ignored=_LOSSES,
    ),
    "mel_band_roformer": Architecture(
        "model", frozenset({"num_bands", "dim_head"}), ("bs_roformer", "MelBandRoformer"), MelBandRoformer,
        lambda arguments, audio, training: 2 if arguments["stereo"] else 1,
        lambda arguments, audio: int(arguments["stft_hop_length"]),
        lambda arguments, audio: int(arguments["stft_n_fft"]),
        lambda arguments: int(arguments["num_stems"]), ignored=_LOSSES,
    ),
    "scnet": Architecture(
        "model", frozenset({"dims", "num_dplayer"}), ("scnet", "SCNet"), SCNet,
        lambda arguments, audio, training: int(arguments["audio_channels"]),
        lambda arguments, audio: int(arguments["hop_size"]), lambda arguments, audio: int(arguments["nfft"]),
        lambda arguments: len(arguments["sources"]),
    ),
    "mdx23c": Architecture(
        "model", frozenset({"num_subbands", "num_scales"}), ("mdx23c_tfc_tdf_v3", "TFC_TDF_net"), MDX23C,
        lambda arguments, audio, training: audio.num_channels,
        lambda arguments, audio: audio.hop_length, lambda arguments, audio: audio.n_fft, lambda arguments: None,
        complete=_complete_mdx23c, fixed=True,
    ),
    "htdemucs": Architecture(
        "htdemucs", frozenset({"channels", "t_layers"}), ("", ""), HTDemucs,
        lambda arguments, audio, training: training.channels, lambda arguments, audio: 1024,
        lambda arguments, audio: int(arguments.get("nfft", 4096)), lambda arguments: None,
        segment=_htdemucs_segment, ignored=_HTDEMUCS_INITIAL, fixed=True,
    ),
    "bandit": Architecture(
        "model", frozenset({"band_specs", "in_channel"}), ("bandit.core.model", "MultiMaskMultiSourceBandSplitRNNSimple"),  # noqa: E501
        Bandit, lambda arguments, audio, training: 1, lambda arguments, audio: int(arguments["hop_length"]),
        lambda arguments, audio: int(arguments["n_fft"]),
        lambda arguments: len(arguments["stems"]),
    ),
}  # fmt: skip
"""Every architecture that gbsep runs, by the family's own name."""
