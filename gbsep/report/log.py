"""The experiment log: a Markdown file that people and gbsep write together.

A summary table with a row for every experiment (Exp ID, date, technique, source, remark), and a section for each:
settings, figures, diagnoses, the reviewer's notes, pictures, previews of one loudness and links to the sound. An
experiment is one render; a mark in its section, which no reader of the page sees, tells which. What is in the file
stays, byte by byte: rows go after the last row of its summary table, sections to its end, and only of renders that
have no section yet. Numbers go on from the highest that is there.

Pictures and previews lie beside the log, in <log>.files/<number>/. Whatever comes from a file name, a preset or a
note is escaped, so that it reads as it is and is no Markdown or HTML. Written with f-strings, not with
jinja2, which gbsep does not need otherwise: most of this module finds places in a user's file and escapes.

Reference: CommonMark 0.31.2, section 2.4 (backslash escapes); GitHub Flavored Markdown, section 4.10 (tables).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from ..atomic import write_whole
from ..errors import OutputError, SmallFileError, printable
from ..measure.diagnose import clock
from ..measure.figures import COLUMNS
from ..shelf.record import PresetStem
from ..store import smallfiles
from ..store.identity import json_hash
from .preview import matched_gains, mp3, picture
from .songs import Render, Song, Source, collect
from .spectrogram import RANGE_HZ

MAX_BYTES = 16_000_000
PREVIEW_S = 30.0

MARK = re.compile(r"<!-- gbsep experiment ([0-9a-f]{16}) -->")
ROW = re.compile(r"^\|\s*\**\s*0*(\d{1,9})(?:[-_]\d+)?\s*\**\s*\|", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+Exp[ \t]+0*(\d{1,9})(?!\d)", re.MULTILINE)
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?^ {0,3}\1[`~]*[ \t\r]*$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"^\|[^\r\n]*\bExp ID\b[^\r\n]*\r?\n\|[ :|-]+\|[ \t]*(?:\r?\n\|[^\r\n]*)*", re.MULTILINE)
SPECIAL = re.compile(r"[\\`*_{}\[\]#|~$!]")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True)
class Words:
    """What the log says in one language; `findings` are the sentences of measure.diagnose.KINDS, empty for its own."""

    title: str
    summary: str
    header: tuple[str, ...]
    overview: str
    source: str
    technique: str
    figures: str
    stem: str
    diagnosis: str
    nothing: str
    review: str
    unreviewed: str
    status: Mapping[str, str]
    listen: str
    preview: str
    pictures: str
    picture: str
    count: str
    columns: Mapping[str, str]
    findings: Mapping[str, str]


WORDS = {
    "en": Words(
        title="Experiment Log",
        summary="Summary",
        header=("Exp ID", "Date", "Technique", "Source", "Remark"),
        overview="Overview",
        source="Source",
        technique="Technique",
        figures="Figures",
        stem="stem",
        diagnosis="Diagnosis",
        nothing="nothing found",
        review="Review",
        unreviewed="not reviewed yet",
        status={"accepted": "accepted", "rejected": "rejected"},
        listen="Listen",
        preview="preview",
        pictures="Mel spectrograms",
        picture="{name}, 0 to {seconds:g} s, 30 Hz to {high_khz:g} kHz",
        count="{count} findings",
        columns={},
        findings={},
    ),
    "ko": Words(
        title="실험 일지",
        summary="요약표",
        header=("Exp ID", "날짜", "사용 기술", "곡명(소스 유형)", "비고"),
        overview="개요",
        source="사용 음원",
        technique="사용 기술",
        figures="측정값",
        stem="트랙",
        diagnosis="진단",
        nothing="발견된 문제 없음",
        review="검토",
        unreviewed="아직 검토하지 않음",
        status={"accepted": "승인", "rejected": "반려"},
        listen="듣기",
        preview="미리듣기",
        pictures="멜 스펙트로그램",
        picture="{name}, 0~{seconds:g}초, 30 Hz~{high_khz:g} kHz",
        count="진단 {count}건",
        columns={"bleed_db": "블리딩", "note_f1": "음", "findings": "진단", "loudness_lufs": "라우드니스",
                 "peak_dbfs": "피크", "restored_gain_db": "레벨 복원"},
        findings={
            "swapped": "{stem} 트랙과 {partner} 트랙이 서로 바뀜: {partner} 쪽이 {value:.1f}옥타브 낮게 들림",
            "phantom": "원곡에 {stem} 소리가 없는 구간인데 {stem} 트랙에서 소리가 남: {value:.0f} %가 {partner}",
            "level_lost": "{stem} 트랙의 레벨이 원곡보다 {value:.1f} dB 작게 분리됨",
            "swelling": "{stem} 트랙의 볼륨이 {value:.0f} %만큼 울렁거림, 원곡에는 없는 변화",
            "bleeding": "{partner} 소리가 {stem} 트랙으로 {value:.0f} dB 새어 나옴 (블리딩)",
            "thin_high": "{stem} 노트의 음역이 높아지면 소리가 {value:.1f} dB 얇아짐",
            "low_end_missing": "{stem} 트랙의 저음역이 원곡보다 {value:.0f} dB 부족함",
            "low_end_left": "{stem} 트랙에 {partner}의 저음역이 남아 있음 (원곡 저음역의 {value:.0f} dB)",
            "residual_loud": "어느 트랙에도 담기지 않은 소리가 원곡 대비 {value:.0f} dB: 다른 악기이거나 사라진 소리",
            "clipping": "{stem} 트랙이 클리핑됨: 최대값에 붙은 샘플 쌍 {value:.0f}개",
            "dc_offset": "{stem} 트랙에 {value:.0f} dBFS의 DC 오프셋이 있음",
            "silent": "{stem} 트랙이 무음임 (최대 레벨 대비 {value:.0f} dB 아래)",
            "non_finite": "{stem} 트랙의 {value:.3f}초에 NaN 또는 무한대 값이 있음",
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """One render of a song, and the mark that tells it from all others."""

    song: Song
    render: Render

    @property
    def key(self) -> str:
        """16 hexadecimal digits of what the render was made of and with."""
        return json_hash(self.render.record.fingerprint, sort_keys=True)[:16]


def write_log(
    outs: Sequence[Path], path: Path, language: str = "en", references: Path | None = None
) -> tuple[list[str], list[Path]]:
    """Add the renders below `outs` that the log at `path` does not have; their numbers, and the files written.

    Raises OutputError for a folder without renders, or a log that is not UTF-8 text.
    """
    text = _read(path)
    known = set(MARK.findall(text))
    fresh: dict[str, Experiment] = {}
    for out in outs:
        for song in collect(out, references):
            for render in song.renders:
                experiment = Experiment(song, render)
                if experiment.key not in known:
                    fresh.setdefault(experiment.key, experiment)
    words, assets = WORDS[language], path.with_name(f"{path.stem}.files")
    first = 1 + max(numbers_of(text) + _numbers_in(assets), default=0)
    numbers = [f"{first + place:03d}" for place in range(len(fresh))]
    rows, sections, written = [], [], []
    for number, experiment in zip(numbers, fresh.values(), strict=True):
        rows.append(_row(number, experiment, words))
        pictures, previews = _write_assets(experiment, assets / number)
        written += [*pictures.values(), *previews.values()]
        sections.append("\n".join(_section(number, experiment, words, path.parent, pictures, previews)))
    if fresh:
        _write(path, added(text, rows, sections, words))
        written.append(path)
    return numbers, written


def added(text: str, rows: Sequence[Sequence[str]], sections: Sequence[str], words: Words) -> str:
    """`text` with rows after the last one of its summary table, made where there is none, and sections at its end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    table = TABLE.search(_without_fences(text))
    if not table:
        start = f"# {words.title}{newline}" if not text.strip() else ""
        header = [_table_row(words.header), _table_row([":---:", ":---:", ":---", ":---:", ":---"])]
        text = _ended(text, newline) + start + newline.join([f"{newline}## {words.summary}", *header]) + newline
        table = TABLE.search(_without_fences(text))
    assert table is not None
    end = table.end()
    columns = table.group().splitlines()[1].count("|") - 1
    new = [_table_row([*row, *[""] * columns][:columns]) for row in rows]
    text = text[:end] + "".join(newline + row for row in new) + text[end:]
    body = "\n---\n\n".join(sections).replace("\n", newline)
    return f"{_ended(text, newline)}{newline}---{newline}{newline}{body}{newline}"


def numbers_of(text: str) -> list[int]:
    """The numbers of the experiments in a log: of the rows of its summary tables, and of its headings `Exp N`."""
    shown = _without_fences(text)
    rows = [number for table in TABLE.finditer(shown) for number in ROW.findall(table.group())]
    return [int(number) for number in (*rows, *HEADING.findall(shown))]


def _without_fences(text: str) -> str:
    """`text` with blanks for the letters inside of code fences that end: what is outside keeps its place."""
    return FENCE.sub(lambda fence: re.sub(r"[^\r\n]", " ", fence.group()), text)


def escaped(text: str) -> str:
    r"""Text that reads as it is in Markdown and is neither Markdown nor HTML: `escaped("a*b")` is `a\*b`."""
    escaped = SPECIAL.sub(r"\\\g<0>", printable(text))
    return "".join(ENTITIES.get(letter, letter) for letter in escaped)


def _read(path: Path) -> str:
    try:
        return smallfiles.read_text(path, MAX_BYTES)
    except SmallFileError as error:
        if error.missing:
            return ""
        raise OutputError(path, f"{error.reason}: save it as UTF-8, or name another log with --log") from None


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}; name another log with --log") from None


def _ended(text: str, newline: str) -> str:
    return text if not text or text.endswith("\n") else text + newline


def _numbers_in(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if re.fullmatch("[0-9]{1,9}", name)]


def _table_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(number: str, experiment: Experiment, words: Words) -> list[str]:
    song, render = experiment.song, experiment.render
    made = datetime.fromtimestamp((render.folder / "render.json").stat().st_mtime)
    remark = [
        f"{stem} {COLUMNS['sdr'].label} {row['sdr']:.1f} dB"
        for stem, row in render.figures.items()
        if row.get("sdr") is not None
    ]
    if song.decided.status:
        remark.append(words.status[song.decided.status])
    remark.append(words.count.format(count=len(render.findings)) if render.findings else words.nothing)
    technique = ": ".join(dict.fromkeys([render.preset, _technique(render)]))
    return [f"**{number}**", f"{made:%y.%m.%d}", escaped(technique), escaped(song.name), escaped(", ".join(remark))]


def _technique(render: Render) -> str:
    separate = render.record.preset.separate
    return str(separate.get("model") or separate.get("backend", ""))


def _section(
    number: str,
    experiment: Experiment,
    words: Words,
    base: Path,
    pictures: Mapping[str, Path],
    previews: Mapping[str, Path],
) -> Iterator[str]:
    song, render = experiment.song, experiment.render
    preset = render.record.preset
    yield f"### Exp {number}: {escaped(song.name)}, {escaped(render.preset)}"
    yield f"<!-- gbsep experiment {experiment.key} -->"
    yield f"* **{words.overview}:** {escaped(preset.title)}"
    yield f"* **{words.source}:** {escaped(Path(render.record.recording.path).name)}"
    yield f"* **{words.technique}:** {escaped(render.recipe)}"
    for name, stem in preset.stems.items():
        yield f"    * {escaped(name)}: {escaped(_chain(stem))}"
    yield f"* **{words.figures}:**"
    yield ""
    yield from _figures(render, words)
    yield ""
    yield f"* **{words.diagnosis}:**{'' if render.findings else ' ' + words.nothing}"
    for finding in render.findings:
        sentence = words.findings.get(finding.kind)
        text = sentence.format(**finding.model_dump()) if sentence else finding.message
        yield f"    * {clock(finding.start_s)} - {clock(finding.end_s)}: {escaped(text)}"
    decided = song.decided
    yield f"* **{words.review}:** {words.status[decided.status] if decided.status else words.unreviewed}"
    for note in decided.notes:
        if note.preset in (None, render.preset):
            about = f" ({escaped(note.stem)})" if note.stem else ""
            lines = "<br>".join(escaped(line) for line in note.text.splitlines() if line.strip())
            yield f"    * {clock(note.time_s)}{about}: {lines}"
    yield f"* **{words.listen}:**"
    for source in render.sources:
        links = [f"[{escaped(source.file.name)}]({_link(source.file, base)})"] if source.file else []
        if source.name in previews:
            links.append(f"[{words.preview}]({_link(previews[source.name], base)})")
        yield f"    * {escaped(source.name)}: {', '.join(links)}"
    yield f"* **{words.pictures}:**"
    yield ""
    high_khz = min(RANGE_HZ[1], render.sources[0].shape[0] / 2) / 1000
    for name, file in pictures.items():
        caption = words.picture.format(name=name, seconds=round(_seconds(render.sources[0]), 1), high_khz=high_khz)
        yield f"![{escaped(caption)}]({_link(file, base)})"
        yield ""


def _chain(stem: PresetStem) -> str:
    """How a stem is made: `other, mixture_fit, Compressor (ratio 2)`."""
    parts = [" + ".join(stem.sources)]
    if stem.restore.method != "none":
        parts.append(stem.restore.method)
    for node in stem.chain:
        values = [
            f"{key} {value}" for key, value in node.items() if key != "effect" and isinstance(value, (str, int, float))
        ]
        effect = str(node.get("effect", ""))
        parts.append(f"{effect} ({', '.join(values)})" if values else effect)
    return ", ".join(parts)


def _figures(render: Render, words: Words) -> Iterator[str]:
    shown = [name for name in COLUMNS if any(name in row for row in render.figures.values())]
    yield _table_row([words.stem, *(escaped(words.columns.get(name, COLUMNS[name].label)) for name in shown)])
    yield _table_row([":---", *["---:"] * len(shown)])
    for stem, row in render.figures.items():
        cells = [_figure(row.get(name), COLUMNS[name].unit) for name in shown]
        yield _table_row([escaped(stem), *cells])


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{round(value, 1) + 0.0:.1f} {unit}" if unit else f"{value:g}"


def _link(path: Path, base: Path) -> str:
    """A path from the log's folder, quoted for a link."""
    return quote(Path(os.path.relpath(path.resolve(), base.resolve())).as_posix())


def _seconds(source: Source) -> float:
    rate, frames = source.shape
    return frames / rate


def _write_assets(experiment: Experiment, folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The pictures and the previews of an experiment, by the names of their sounds."""
    mixture = (experiment.song.mixture,) if experiment.song.mixture else ()
    sources = [*mixture, *(source for source in experiment.render.sources if source.kind == "stem")]
    gains_db = matched_gains([source.levels for source in sources])
    pictures, previews = {}, {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place, (source, gain_db) in enumerate(zip(sources, gains_db, strict=True)):
            name = f"{place}-{re.sub(r'[^A-Za-z0-9]', '_', source.name)}"
            pictures[source.name], previews[source.name] = folder / f"{name}.png", folder / f"{name}.mp3"
            pictures[source.name].write_bytes(picture(source))
            previews[source.name].write_bytes(mp3(source, gain_db, PREVIEW_S))
    except OSError as error:
        raise OutputError(folder, f"cannot be written: {error.strerror}; name another log with --log") from None
    return pictures, previews
