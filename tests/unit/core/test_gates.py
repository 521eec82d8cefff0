"""Gates trip on what was measured over a window and let go only clearly below, so that none flutters."""

import pytest

from sfmd.core.gates import GATES, Gate, Measures, mode_share, near_tie

SPECS = {spec.name: spec for spec in GATES}
QUIET = Measures(n=1000, i_q10=0.2, i_q90=0.8)
LOUD = {
    "G1": Measures(n=200_001, recall_p95_s=0.0251),
    "G2": Measures(n=1000, i_q10=0.5, i_q90=0.54),
    "G3": Measures(n=1000, near_tie_share=0.06),
    "G4": Measures(n=1000, resident_ratio=0.81),
    "G5": Measures(n=1000, ann_in_use=True),
    "G6": Measures(n=1000, finite_half_life=True),
}


def test_there_are_six_and_each_says_what_it_does():
    assert list(SPECS) == ["G1", "G2", "G3", "G4", "G5", "G6"]
    assert all(spec.condition and spec.action for spec in GATES)


@pytest.mark.parametrize("name", list(SPECS))
def test_trips_after_its_whole_window_and_lets_go_after_another(name):
    gate, window_s = Gate(SPECS[name]), SPECS[name].window_s
    assert not gate.observe(QUIET, 0.0) and not gate.tripped
    if window_s:
        assert not gate.observe(LOUD[name], 10.0)
        assert not gate.observe(LOUD[name], 10.0 + window_s - 1.0) and not gate.tripped
    assert gate.observe(LOUD[name], 10.0 + window_s) and gate.tripped
    if window_s:
        assert not gate.observe(QUIET, 1000.0)
        assert not gate.observe(QUIET, 1000.0 + window_s - 1.0) and gate.tripped
    assert gate.observe(QUIET, 1000.0 + window_s) and not gate.tripped


def test_a_quiet_moment_starts_the_window_anew():
    gate = Gate(SPECS["G4"])
    gate.observe(LOUD["G4"], 0.0)
    gate.observe(QUIET, 50.0)
    assert not gate.observe(LOUD["G4"], 61.0) and not gate.tripped
    assert gate.observe(LOUD["G4"], 121.0)


def test_just_below_the_threshold_a_tripped_gate_holds():
    gate = Gate(SPECS["G4"])
    for now_s in (0.0, 60.0):
        gate.observe(LOUD["G4"], now_s)
    assert gate.tripped
    for now_s in (100.0, 500.0, 5000.0):
        assert not gate.observe(Measures(n=1000, resident_ratio=0.75), now_s)
    assert gate.tripped and gate.value == 0.75
    untripped = Gate(SPECS["G4"])
    for now_s in (0.0, 500.0):
        untripped.observe(Measures(n=1000, resident_ratio=0.75), now_s)
    assert not untripped.tripped


def test_g1_wants_both_size_and_slowness():
    for measures in (Measures(n=200_000, recall_p95_s=1.0), Measures(n=10**6, recall_p95_s=0.024)):
        gate = Gate(SPECS["G1"])
        gate.observe(measures, 0.0)
        assert not gate.observe(measures, 1000.0)


@pytest.mark.parametrize(
    ("measures", "trips"),
    [
        (Measures(n=9, i_q10=0.5, i_q90=0.5), True),
        (Measures(n=9, i_q10=0.1, i_q90=0.9, i_mode_share=0.6), True),
        (Measures(n=9, i_q10=0.1, i_q90=0.9, i_mode_share=0.4), False),
        (Measures(n=0, i_q10=0.5, i_q90=0.5), False),
    ],
)
def test_g2_is_narrow_or_heaped_importance(measures, trips):
    gate = Gate(SPECS["G2"])
    gate.observe(measures, 0.0)
    gate.observe(measures, 60.0)
    assert gate.tripped is trips


def test_a_near_tie_is_one_that_beta_would_part():
    assert near_tie([-1.0, -1.0005], [-0.5, -0.6])
    assert not near_tie([-1.0, -1.0005], [-0.5, -0.5])
    assert not near_tie([-1.0, -1.1], [-0.5, -0.6])
    assert not near_tie([-1.0], [-0.5])


def test_mode_share():
    assert mode_share([]) == 0.0
    assert mode_share([0.1, 0.5, 0.51, 0.52, 0.9]) == pytest.approx(0.6)
    assert mode_share([0.3] * 10) == 1.0
