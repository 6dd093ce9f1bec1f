"""What a batch plans: names of outputs, shared work, jobs and threads, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gbsep
from gbsep import batch
from gbsep.batch import history, planning
from gbsep.errors import OutputError, ParameterError, PresetError
from gbsep.rendering import Options
from gbsep.separation.backend import BACKENDS

from .helpers import write_song


def test_songs_of_one_name_keep_their_tree(tmp_path: Path) -> None:
    for name in ("one/mix.wav", "two/mix.wav", "two/solo.wav"):
        write_song(tmp_path / name)
    planned = batch.plan([tmp_path], ["exp002"], Options(tmp_path / "out"))
    assert [plan.track for plan in planned.plans] == ["one/mix", "two/mix", "solo"]
    below = batch.plan([tmp_path], ["exp002"], Options(tmp_path / "out"), below=tmp_path)
    assert [plan.track for plan in below.plans] == ["one/mix", "two/mix", "two/solo"]


def test_a_song_that_gets_a_namesake_keeps_its_name(tmp_path: Path) -> None:
    def done() -> dict[str, str]:
        planned = batch.plan([tmp_path / "songs"], ["exp002"], Options(tmp_path / "out"))
        assert not planned.refused
        return {outcome.track: outcome.status for outcome in batch.run(planned)}

    write_song(tmp_path / "songs/cd1/song.wav")
    assert done() == {"song": "ok"}
    write_song(tmp_path / "songs/cd2/song.wav", seed=1)
    assert done() == {"song": "skipped", "cd2/song": "ok"}
    assert done() == {"song": "skipped", "cd2/song": "skipped"}
    fresh = batch.plan([tmp_path / "songs"], ["exp002"], Options(tmp_path / "fresh"))
    assert [plan.track for plan in fresh.plans] == ["cd1/song", "cd2/song"]


def test_a_render_asked_for_twice_is_done_once(album: Path, tmp_path: Path) -> None:
    planned = batch.plan([album, album / "1.wav", album / ".." / "album"], ["exp002", "exp002"], Options(tmp_path))
    assert len(planned.plans) == 8


def test_what_is_wrong_with_all_is_raised(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(tmp_path / "out")
    with pytest.raises(PresetError, match="did you mean 'exp002'"):
        batch.plan([album], ["exp002", "exp02"], options)
    with pytest.raises(ParameterError, match="jobs = 0"):
        batch.plan([album], ["exp002"], options, jobs=0)
    free = planning.plan([album], ["exp002"], options)
    one = free.plans[0].output_bytes + free.plans[0].scratch_bytes
    monkeypatch.setattr("gbsep.shelf.folder.shutil.disk_usage", lambda path: SimpleNamespace(free=3 * one))
    with pytest.raises(OutputError, match="MB are needed and"):
        batch.plan([album], ["exp002"], options)
    assert len(batch.plan([album], ["exp002"], options, check_space=False).plans) == 8
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("jobs", "cores"), [(None, 1), (None, 2), (1, 4), (2, 4), (3, 8), (8, 4), (100, 2)])
def test_jobs_share_the_cores(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int | None, cores: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for module in ("gbsep.batch.planning", "gbsep.separation.compute"):
        monkeypatch.setattr(f"{module}.processors", lambda: cores)
    planned = batch.plan([album], ["exp002"], Options(tmp_path / "out"), jobs=jobs)
    assert 1 <= planned.jobs <= 8
    assert planned.threads * planned.jobs <= max(cores, planned.jobs)
    assert jobs is None or planned.jobs == min(jobs, 8)
    alone = batch.plan([album / "1.wav"], ["exp002"], Options(tmp_path / "out"), jobs=jobs)
    assert (alone.jobs, alone.threads, alone.alone) == (1, cores, True)


def test_finished_work_does_not_change_the_threads_of_the_rest(album: Path, tmp_path: Path) -> None:
    """Or a batch that was cut short would end with other bytes."""
    before = batch.plan([album], ["exp002"], Options(tmp_path / "out"), jobs=2)
    list(batch.run(batch.plan(sorted(album.iterdir())[:7], ["exp002"], Options(tmp_path / "out"), jobs=2)))
    after = batch.plan([album], ["exp002"], Options(tmp_path / "out"), jobs=2)
    assert [plan.action for plan in after.plans] == ["skip"] * 7 + ["render"]
    assert (before.jobs, before.threads, before.alone) == (after.jobs, after.threads, after.alone)


def test_the_estimate_is_learned(album: Path, tmp_path: Path) -> None:
    planned = batch.plan([album], ["exp002"], Options(tmp_path / "out"), jobs=2)
    rough, learned = history.estimate(planned)
    assert rough == pytest.approx(4 * 0.2 * (BACKENDS["crossover"].real_time_factor + history.EFFECTS_REAL_TIME_FACTOR))
    assert not learned
    outcomes = [
        gbsep.Outcome(plan.source, "exp002", "ok", seconds={"separate": 2.0, "process": 1.0}) for plan in planned.plans
    ]
    history.learn(planned, outcomes)
    assert history.estimate(planned) == (pytest.approx(4 * 3.0), True)


def test_a_snippet_teaches_no_more_than_what_it_takes_to_begin(tmp_path: Path) -> None:
    """Of one frame the seconds per second of audio would say half a day for a song."""
    for name, frames in (("snippet", 1), ("song", 44100 * 20)):
        gbsep.write(tmp_path / f"{name}.wav", gbsep.Audio(np.full((1, frames), 0.1, np.float32), 44100))
    snippet, song = (
        batch.plan([tmp_path / f"{name}.wav"], ["exp002"], Options(tmp_path / "out")) for name in ("snippet", "song")
    )
    seconds = {"separate": 4.0, "process": 1.0}
    history.learn(snippet, [gbsep.Outcome(snippet.plans[0].source, "exp002", "ok", seconds=seconds)])
    assert history.estimate(snippet) == (pytest.approx(5.0), True)
    assert history.estimate(song) == (pytest.approx(5.0 * 20 / history.LEAST_AUDIO_S), True)
