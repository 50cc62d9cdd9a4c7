"""Lineage: what an artefact came from, or what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from inzitu.prov.facts import DIGEST, Activity, Agent, Artefact
from inzitu.prov.history import History, UnrecordedError

type Direction = Literal["BACK", "FORTH"]
type Depth = int | Literal["ALL"]

MOST = 20_000
"""Artefacts and activities that one lineage may have."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """A part of the record around some roots.

    Parameters
    ----------
    roots
        Identifiers of the artefacts and activities that it starts from.
    artefacts
        By identifier.
    activities
        The earliest first. What they used and made may lie outside of the lineage.
    attributions
        Who brought the artefacts that came from outside.
    destroyed
        When the content of those that are no more was given up.
    """

    roots: tuple[str, ...]
    artefacts: Mapping[str, Artefact]
    activities: tuple[Activity, ...]
    attributions: Mapping[str, tuple[Agent, ...]]
    destroyed: Mapping[str, datetime]


def lineage(history: History, *ids: str, depth: Depth = "ALL", direction: Direction = "BACK") -> Lineage:
    """Follow the record from artefacts, activities or jobs.

    Parameters
    ----------
    ids
        Of artefacts, of activities, or of jobs: a job stands for its activities and all that they made.
    depth
        How many relations to follow: 0 is the root itself, 1 the activity that made it, 2 what that one used.
    direction
        BACK to what it came from, or FORTH to what became of it.

    Raises
    ------
    UnrecordedError
        The record knows nothing of that identifier.
    ValueError
        The depth is negative, or the lineage larger than `MOST`.
    """
    if depth != "ALL" and depth < 0:
        raise ValueError(f"the depth is {depth}: it must be 0 or more, or ALL")
    artefacts, activities = _roots(history, ids)
    new_artefacts, new_activities = set(artefacts), set(activities)
    steps = 0
    while (new_artefacts or new_activities) and (depth == "ALL" or steps < depth):
        reached = _next_activities(history, new_artefacts, direction)
        beyond = _next_artefacts([activities[id] for id in new_activities], direction)
        new_activities, new_artefacts = reached.keys() - activities.keys(), beyond - artefacts
        activities |= reached
        artefacts |= beyond
        steps += 1
        if len(activities) + len(artefacts) > MOST:
            raise ValueError(f"the lineage has more than {MOST} activities and artefacts: ask for a smaller DEPTH")
    return Lineage(
        roots=tuple(dict.fromkeys(ids)),
        artefacts=history.artefacts(artefacts),
        activities=tuple(sorted(activities.values(), key=lambda activity: (activity.ended, activity.id))),
        attributions=history.attributed(*artefacts),
        destroyed=history.destroyed(*artefacts),
    )


def _roots(history: History, ids: Iterable[str]) -> tuple[set[str], dict[str, Activity]]:
    artefacts: set[str] = set()
    activities: dict[str, Activity] = {}
    for id in ids:
        if DIGEST.fullmatch(id):
            artefacts.add(history.artefact(id).id)
        elif job := history.of_job(id):
            activities |= {activity.id: activity for activity in job}
            artefacts |= {made.artefact for activity in job for made in activity.made}
        elif found := history.activities(id):
            activities |= found
        else:
            raise UnrecordedError(f"The record has no artefact, activity or job {id}.")
    return artefacts, activities


def _next_activities(history: History, artefacts: set[str], direction: Direction) -> dict[str, Activity]:
    if not artefacts:
        return {}
    found = history.makers(*artefacts) if direction == "BACK" else history.users(*artefacts)
    return {activity.id: activity for activity in found}


def _next_artefacts(activities: Iterable[Activity], direction: Direction) -> set[str]:
    if direction == "BACK":
        return {used.artefact for activity in activities for used in activity.used}
    return {made.artefact for activity in activities for made in activity.made}
