from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inzitu.errors import PhaseFault
from inzitu.jobs.phases import TRANSITIONS, Event, Phase, advance

# UWS 1.1, section 2.1.3 and its figure, written down a second time: what may follow each phase.
FOLLOWERS: Mapping[str, set[str]] = {
    "PENDING": {"QUEUED", "ABORTED", "ERROR"},
    "QUEUED": {"EXECUTING", "ABORTED"},
    "EXECUTING": {"EXECUTING", "QUEUED", "COMPLETED", "ERROR", "ABORTED"},
    "COMPLETED": {"ARCHIVED"},
    "ERROR": {"ARCHIVED"},
    "ABORTED": {"ABORTED", "ARCHIVED"},
    "ARCHIVED": set(),
}


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_every_path_keeps_to_the_figure_and_no_ended_job_runs_again(events: list[Event]) -> None:
    phase, ended = Phase.PENDING, False
    for event in events:
        if (phase, event) not in TRANSITIONS:
            with pytest.raises(PhaseFault, match=f"{phase} cannot {event}"):
                advance(phase, event)
            continue
        following = advance(phase, event)
        assert following in FOLLOWERS[phase]
        phase = following
        assert not (ended and not phase.ended)
        ended = phase.ended
        assert phase.active is not phase.ended


def test_every_phase_but_those_of_other_services_is_reached() -> None:
    reached = {Phase.PENDING} | {phase for _, phase in TRANSITIONS.items()}
    assert reached == set(Phase) - {Phase.HELD, Phase.SUSPENDED, Phase.UNKNOWN}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase != Phase.PENDING])
def test_a_job_runs_once_and_the_fault_says_what_to_do_instead(phase: Phase) -> None:
    with pytest.raises(PhaseFault, match=f"{phase} cannot run. A job runs once: create a new one."):
        advance(phase, Event.RUN)
