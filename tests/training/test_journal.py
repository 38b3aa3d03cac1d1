import dataclasses
import json
import math

import numpy as np
import pytest

from parrotlab.training.journal import LOAD_EVERY, Journal
from parrotlab.training.loop import Progress

STEPS = 40


def progress(step, losses=(1.0, 2.0), choices=((6, 2, 0, 0), (2, 2, 2, 2)), diverged=(False, False), dropped=0.0):
    """A window of two replicas; in each of two layers, both choose alike."""
    choices_LRE = np.stack([np.stack([np.array(layer, dtype=float)] * 2) for layer in choices])
    return Progress(
        step=step,
        steps=STEPS,
        loss_R=np.array(losses),
        gradient_norm_R=np.array([0.5, 0.7]),
        choices_LRE=choices_LRE,
        dropped_LR=np.full((2, 2), dropped),
        diverged_R=np.array(diverged),
    )


def of(journal, index, metric, part=None, step=None):
    return [
        m.value
        for m in journal.measurements[index]
        if m.metric == metric and part in (None, m.part) and step in (None, m.step)
    ]


def filled(windows=STEPS):
    journal = Journal(2)
    for step in range(1, windows + 1):
        journal.note(progress(step))
    return journal


def test_each_replica_has_its_own_losses_window_by_window():
    journal = filled(3)
    assert of(journal, 0, "loss") == [1.0] * 3
    assert of(journal, 1, "loss") == [2.0] * 3
    assert of(journal, 1, "gradient_norm") == [0.7] * 3
    assert [m.step for m in journal.measurements[0] if m.metric == "loss"] == [1, 2, 3]
    assert {(m.evaluation, m.split) for m in journal.measurements[0] if m.metric == "loss"} == {("training", "train")}


def test_the_loads_of_a_layer_sum_to_one_and_are_told_now_and_then_and_at_the_end():
    journal = filled()
    told = sorted({m.step for m in journal.measurements[0] if m.metric == "load"})
    assert told == list(range(LOAD_EVERY, STEPS + 1, LOAD_EVERY))
    for layer, loads in enumerate([[0.75, 0.25, 0, 0], [0.25] * 4]):
        rows = [of(journal, 0, "load", f"layer {layer} expert {expert}", STEPS) for expert in range(4)]
        assert rows == [[load] for load in loads]
    short = Journal(2)
    short.note(progress(STEPS))  # the last window, though none is due
    assert sum(of(short, 0, "load", step=STEPS)) == pytest.approx(2)


def test_an_expert_without_a_token_is_counted_as_dead():
    journal = filled(1)
    assert of(journal, 0, "dead", "layer 0") == [2]
    assert of(journal, 0, "dead", "layer 1") == [0]


def test_the_entropy_of_a_balanced_layer_is_the_logarithm_of_e_and_of_a_collapsed_one_zero():
    journal = Journal(2)
    journal.note(progress(1, choices=((5, 5, 5, 5), (0, 20, 0, 0))))
    assert of(journal, 0, "entropy", "layer 0") == [pytest.approx(math.log(4))]
    assert of(journal, 0, "entropy", "layer 1") == [0]


def test_dropped_choices_are_told():
    journal = Journal(2)
    journal.note(progress(1, dropped=0.125))
    assert of(journal, 1, "dropped") == [0.125, 0.125]


def test_of_a_diverged_replica_its_last_window_is_kept_with_the_reason_and_nothing_after_it():
    journal = filled(3)
    for step in (4, 5, 6):
        journal.note(progress(step, losses=(math.nan, 1.5), diverged=(True, False)))
    assert journal.reason(0) == "diverged at step 4: loss is nan"
    assert journal.reason(1) == ""
    assert len(of(journal, 0, "loss")) == 4
    assert len(of(journal, 1, "loss")) == 6


def test_a_dense_model_has_no_routing():
    journal = Journal(2)
    journal.note(dataclasses.replace(progress(1), choices_LRE=np.zeros((0, 2, 1)), dropped_LR=np.zeros((0, 2))))
    assert {m.evaluation for m in journal.measurements[0]} == {"training"}


def test_a_journal_survives_its_checkpoint_and_goes_on_as_if_nothing_had_happened():
    whole, first = Journal(2), Journal(2)
    windows = [progress(step) for step in range(1, 8)]
    windows += [progress(step, losses=(math.nan, 0.1), diverged=(True, False)) for step in range(8, STEPS + 1)]
    for window in windows:
        whole.note(window)
    for window in windows[:13]:
        first.note(window)
    second = Journal.from_notes(json.loads(json.dumps(first.notes())))
    for window in windows[13:]:
        second.note(window)
    assert repr(second.notes()) == repr(whole.notes())
    assert second.reason(0) == whole.reason(0) == "diverged at step 8: loss is nan"
