"""Training: smaller networks compute what the large ones did, and a run cut in two is the run in one."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from gbsep.errors import OutputError, ParameterError
from gbsep.separation.compact import network as compact_network
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.compact.config import config_from
from gbsep.train import loop, mixing, objective, pruning

from .band import SMALL

# Smaller networks

BLOCKY = replace(SMALL, widths=(8, 16, 24), dilations=((1, 1), (2, 2)))


def with_dead_channels(dead: int) -> compact_network.Weights:
    """A network in whose blocks the last `dead` channels never open."""
    weights = compact_network.new_weights(BLOCKY, 0)
    weights["out.weight"] *= 20
    for name, (_, inside) in BLOCKY.blocks.items():
        weights[f"{name}.a.bias"][inside - min(dead, inside - 1) :] = -1e3
    return weights


def test_what_never_sounds_is_left_out_and_nothing_changes(sources):
    mixture, _ = mixing.batch(sources, 0, 0, 2, 1.0)
    weights = with_dead_channels(8)
    channels = pruning.kept_channels(BLOCKY, weights, mixture, 1.0)
    config, smaller = pruning.pruned(BLOCKY, weights, channels)
    assert config.inner == (8, 16, 16, 8, 8)
    assert {name: value.shape for name, value in smaller.items()} == {
        name: value.shape for name, value in compact_network.new_weights(config, 1).items()
    }
    spectra = compact_network.spectrum(BLOCKY, mixture)
    usual, made = (compact_network.bass_spectrum(*one, spectra) for one in ((BLOCKY, weights), (config, smaller)))
    torch.testing.assert_close(made, usual, atol=1e-5, rtol=1e-4)


def test_less_is_kept_of_a_smaller_part_and_the_file_says_so(sources, tmp_path):
    mixture, _ = mixing.batch(sources, 0, 0, 2, 1.0)
    weights = with_dead_channels(0)
    counts = []
    for keep in (0.99, 0.6, 0.01):
        config, smaller = pruning.pruned(BLOCKY, weights, pruning.kept_channels(BLOCKY, weights, mixture, keep))
        counts.append(sum(config.inner))
        compact_weights.save(tmp_path / "a.safetensors", config, smaller)
        assert compact_weights.load(tmp_path / "a.safetensors")[0] == config
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 5 * pruning.STEP < counts[0]


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.01, float("nan")])
def test_a_part_is_above_zero_and_at_most_one(keep, sources):
    with pytest.raises(ParameterError, match=r"keep.*above 0, at most 1"):
        pruning.kept_channels(BLOCKY, with_dead_channels(0), mixing.batch(sources, 0, 0, 2, 1.0)[0], keep)


def test_a_smaller_network_grows_again_and_computes_what_it_did(sources):
    spectra = compact_network.spectrum(BLOCKY, mixing.batch(sources, 0, 0, 2, 1.0)[0])
    small = replace(BLOCKY, inner=(8, 16, 8, 8, 8))
    weights = compact_network.new_weights(small, 0)
    grown = compact_network.grown(small, weights, BLOCKY, 1)
    usual, made = (compact_network.bass_spectrum(*one, spectra) for one in ((small, weights), (BLOCKY, grown)))
    torch.testing.assert_close(made, usual, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inner", [[8, 8], [8, 8, 8, 8, 0]])
def test_channels_that_fit_no_blocks_are_refused(inner):
    with pytest.raises(ValueError, match="no shape of a network"):
        config_from({"dilations": [[1, 1], [2, 2]], "inner": inner})


# The loop


def plan(**changes) -> loop.Plan:
    return replace(loop.Plan(6, batch_size=2, excerpt_s=1.0, warmup=2, cooldown=2), **changes)


def job(sources: mixing.Sources, wanted: loop.Plan, **about) -> loop.Job:
    return objective.compact_job(SMALL, compact_network.new_weights(SMALL, 0), sources, wanted, about)


def test_a_second_pass_is_learnt_beside_a_first_that_is_fixed(sources, tmp_path):
    """It begins as the first, whose error it lowers."""
    config, wanted = replace(SMALL, passes=2), plan(steps=30)
    first = compact_network.new_weights(SMALL, 0)
    weights = compact_network.grown(SMALL, first, config, 0)
    again = {name: value for name, value in weights.items() if name not in first}
    learnt = objective.compact_job(config, again, sources, wanted, fixed=first)
    state = loop.begin(learnt)
    errors = [error for _, error in loop.run(state, learnt, wanted, tmp_path / "state")]
    alone = objective.compact_job(SMALL, first, sources, wanted)
    assert errors[0] == pytest.approx(alone.loss(first, 0)[1].item(), abs=1e-4)
    assert errors[-1] < alone.loss(first, wanted.steps - 1)[1].item() - 0.1
    learnt.write(tmp_path / "made.safetensors", state.averages)
    read, written = compact_weights.load(tmp_path / "made.safetensors")
    assert read == config
    for name, value in first.items():
        np.testing.assert_allclose(written[name], value.numpy(), rtol=1e-3, atol=1e-6)


def test_both_passes_are_learnt_from_songs_of_ones_own(sources, tmp_path):
    config, wanted = replace(SMALL, passes=2), plan()
    learnt = objective.compact_job(config, compact_network.new_weights(config, 0), sources, wanted)
    deque(loop.run(state := loop.begin(learnt), learnt, wanted, tmp_path / "state"), 0)
    for name in ("in.weight", "again.in.weight"):
        assert not torch.equal(state.weights[name].detach(), learnt.weights[name])


@pytest.mark.parametrize("changes", [{"half": False}, {"half": True}, {"muon": False}])
def test_a_run_cut_in_two_is_the_run_in_one(changes, sources, tmp_path):
    wanted = plan(**changes)
    learnt = job(sources, wanted)
    deque(loop.run(loop.begin(learnt), learnt, wanted, tmp_path / "whole"), 0)
    first = loop.run(loop.opened(learnt, tmp_path / "cut"), learnt, wanted, tmp_path / "cut")
    assert [step for step, _ in islice(first, 3)] == [1, 2, 3]
    first.close()
    second = loop.opened(learnt, tmp_path / "cut")
    assert second.step == 3
    assert [step for step, _ in loop.run(second, learnt, wanted, tmp_path / "cut")] == [4, 5, 6]
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    about, step, averages = loop.averages(tmp_path / "whole")
    assert (config_from(about), step) == (SMALL, 6)
    assert {name: value.shape for name, value in averages.items()} == {
        name: value.shape for name, value in learnt.weights.items()
    }


def test_a_run_stops_when_its_time_is_over_and_keeps_its_state(sources, tmp_path):
    learnt = job(sources, plan())
    assert len(list(loop.run(loop.begin(learnt), learnt, plan(), tmp_path / "state", seconds=0))) == 1
    assert loop.averages(tmp_path / "state")[1] == 1


def test_a_state_of_another_run_is_refused(sources, tmp_path):
    path = tmp_path / "state"
    loop.save(loop.begin(job(sources, plan(), songs="a")), path)
    assert loop.opened(job(sources, plan(), songs="a"), path).step == 0
    with pytest.raises(OutputError, match=r"state: is the state of a training run with other weights"):
        loop.opened(job(sources, plan(), songs="b"), path)
    path.write_text("nothing")
    with pytest.raises(OutputError, match=r"state: is no state of a training run"):
        loop.opened(job(sources, plan()), path)


@pytest.mark.parametrize("there", [False, True])
def test_precision_is_what_the_processor_has_arithmetic_for(there, sources, monkeypatch):
    monkeypatch.setattr(objective, "computes_in_bfloat16", lambda device: there)
    weights = {name: value.requires_grad_() for name, value in compact_network.new_weights(SMALL, 0).items()}
    usual, wanted = (job(sources, plan(half=half)).loss(weights, 0)[0].item() for half in (None, there))
    assert usual == wanted
    assert usual != job(sources, plan(half=not there)).loss(weights, 0)[0].item()


def test_the_error_falls(sources):
    wanted = plan(steps=60, batch_size=4, warmup=10, cooldown=10, learning_rate=5e-3, half=False)
    learnt = job(sources, wanted)
    errors = [error for _, error in loop.train(loop.begin(learnt), learnt.loss, wanted)]
    assert np.mean(errors[-15:]) < np.mean(errors[:15]) - 1.0


def test_a_perfect_estimate_reaches_the_floor_and_half_of_the_mixture_minus_six_db(sources, monkeypatch):
    mixture, _ = mixing.batch(sources, 0, 0, 4, 1.0)
    spectra = compact_network.spectrum(SMALL, mixture)
    for estimate, truth, wanted in ((spectra, mixture, objective.FLOOR_DB), (spectra / 2, mixture, -6.02)):
        monkeypatch.setattr(compact_network, "bass_spectra", lambda *args, estimate=estimate: [estimate])
        found = objective.error_db(SMALL, {}, mixture, truth, False)
        np.testing.assert_allclose(found.numpy(), wanted, atol=0.05)


def test_a_second_counts_as_much_as_it_is_loud():
    mixture = torch.ones(1, 400)
    mixture[..., 100:200] = 1e-3
    error = 0.1 * torch.ones_like(mixture)
    error[..., 200:300] = 0
    ratio_db = objective._ratio_db(error, mixture, 100)[0]
    assert ratio_db[0] == pytest.approx(-20, abs=0.2)
    assert ratio_db[1] == pytest.approx(10 * np.log10(0.01 / (objective.QUIET * 0.75)), abs=0.1)
    assert ratio_db[2] == pytest.approx(objective.FLOOR_DB, abs=0.01)


def steps_of(muon: bool, optimisers: dict[str, torch.optim.Optimizer], weights: dict, reference: dict) -> loop.State:
    """Five steps of ours on `weights` and of torch's on `reference`, with equal gradients."""
    state = loop.begin(loop.Job({}, weights, None, None))
    wanted = plan(steps=100, warmup=0, cooldown=0, learning_rate=0.01, weight_decay=0.1, muon=muon)
    for step in range(5):
        gradients = [torch.randn(value.shape) for value in weights.values()]
        for value, gradient in zip(reference.values(), gradients, strict=True):
            value.grad = gradient.clone()
        for optimiser in optimisers.values():
            optimiser.step()
        state.step = step
        loop._update(state, wanted, list(weights), gradients)
    return state


def test_without_muon_steps_are_adamws():
    weights = {"a.bias": torch.randn(3), "a.weight": torch.randn(3, 3)}
    reference = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
    groups = [
        {"params": [reference["a.weight"]], "weight_decay": 0.1},
        {"params": [reference["a.bias"]], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    state = steps_of(False, {"all": optimiser}, weights, reference)
    for name, value in reference.items():
        torch.testing.assert_close(state.weights[name], value.detach())


@pytest.mark.parametrize("shape", [(4, 12), (12, 4), (6, 2, 3, 3)])
def test_muon_makes_kernels_orthogonal_with_the_size_of_adams_steps(shape):
    made = loop._orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))).flatten(1)
    singular = torch.linalg.svdvals(made) / (0.2 * max(made.shape) ** 0.5)
    assert 0.6 < singular.min() <= singular.max() < 1.3
    assert made.square().mean().sqrt() == pytest.approx(0.2, rel=0.25)


def test_the_rate_warms_up_holds_and_runs_out():
    wanted = loop.Plan(100, learning_rate=1.0, warmup=10, cooldown=20)
    rates = [wanted.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[10:80]) == {1.0}
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["steps", "batch_size", "excerpt_s"])
def test_a_plan_that_cannot_be_is_refused(name):
    with pytest.raises(ParameterError, match=f"{name} = 0.* at least"):
        plan(**{name: 0})


def test_a_job_leaves_the_weights_it_starts_from(sources):
    start = compact_network.new_weights(SMALL, 3)
    learnt = objective.compact_job(SMALL, start, sources, plan())
    state = loop.begin(learnt)
    next(loop.train(state, learnt.loss, plan()))
    assert not torch.equal(state.weights["in.weight"], start["in.weight"])
    assert torch.equal(start["in.weight"], compact_network.new_weights(SMALL, 3)["in.weight"])
