"""Slices under one series UID -> stacks of one geometry and one acquisition, each position once."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np

from lib.dicom.errors import Rejected
from lib.dicom.headers import PARTS, CTSlice

SAME_Z = 0.01  # mm: slices closer than this are at the same place
ROTATION = 16  # slices: the most that a scanner which steps from rotation to rotation usually makes in one
SHARED_UID = "several images share one SOPInstanceUID"

Stack = list[CTSlice]


def split_stacks(slices: Stack) -> tuple[list[tuple[Stack, tuple[str, ...]]], list[Rejected]]:
    """Split the slices of one series UID.

    Parameters
    ----------
    slices : list of CTSlice
        Of one patient, study and SeriesInstanceUID.

    Returns
    -------
    stacks : list of (slices ascending toward the head, notes)
        The largest first.
    rejected : list of Rejected
        Images that are there twice, or lie at a place that is taken.
    """
    slices = sorted(slices, key=lambda item: (item.z, item.number, item.path, item.frame or 0))
    unique, rejected = _without_copies(slices)
    geometries = defaultdict(list)
    for item in unique:
        geometries[item.rows, item.columns, tuple(np.round(item.spacing_mm, 3)), item.turn].append(item)
    stacks = []
    for group in geometries.values():
        for stack in _unmix(group):
            kept, left_over = _one_for_each_place(stack)
            stacks.append(kept)
            rejected += left_over
    stacks.sort(key=lambda stack: (-len(stack), stack[0].number, stack[0].path))
    return [(stack, _notes(stack)) for stack in stacks], rejected


def _without_copies(slices: Stack) -> tuple[Stack, list[Rejected]]:
    """Keep one of the images that share a SOPInstanceUID, unless place or acquisition say that they are others."""
    unique, rejected, seen = [], [], defaultdict(set)
    for item in slices:
        found, here = seen[item.instance, item.frame], (round(item.z, 2), item.parts)
        if item.instance and here in found:
            rejected.append(_reject(item, "the same image (SOPInstanceUID) a second time"))
        else:
            unique.append(replace(item, notes=(*item.notes, SHARED_UID)) if item.instance and found else item)
        found.add(here)
    return unique, rejected


def _unmix(stack: Stack) -> list[Stack]:
    """Separate acquisitions, times, kernels or kinds of image that lie over each other under one series UID.

    Scanners that step from rotation to rotation give each rotation a time or an acquisition number of its own: where
    there are more values than images at one place, and most values have no more slices than a rotation, values are
    rotations. They are joined, and images that were sent again stay over (`_one_for_each_place` takes the first).
    """
    most = max(Counter(_places(stack)).values())
    if most == 1:
        return [stack]
    for part in range(len(PARTS)):
        groups = defaultdict(list)
        for item in stack:
            groups[item.parts[part]].append(item)
        values = [groups[key] for key in sorted(groups)]
        if len(values) < 2 or any(_overlap(group) for group in values):
            continue
        if len(values) <= most or np.median([len(group) for group in values]) > ROTATION:
            return values
        if PARTS[part] != "FrameOfReferenceUID" and (joined := _join(values)):
            return joined
    return [stack]


def _join(rotations: list[Stack]) -> list[Stack] | None:
    """Join rotations into as few stacks as possible; None where what is left over is no acquisition of its own.

    A further stack counts as an acquisition if it has half as many slices as the first.
    """
    stacks: list[Stack] = []
    for rotation in rotations:
        fitting = (stack for stack in stacks if not _overlap(sorted([*stack, *rotation], key=lambda item: item.z)))
        stack = next(fitting, None)
        if stack is None:
            stacks.append(list(rotation))
        else:
            stack += rotation
    if any(2 * len(stack) < len(stacks[0]) for stack in stacks):
        return None
    return [sorted(stack, key=lambda item: item.z) for stack in stacks]


def _places(stack: Stack) -> list[int]:
    """Return the number of the place of each slice; `stack` ascends."""
    steps = [b.z - a.z >= SAME_Z for a, b in pairwise(stack)]
    return [0, *np.cumsum(steps).tolist()]


def _overlap(stack: Stack) -> bool:
    return any(b.z - a.z < SAME_Z for a, b in pairwise(stack))


def _one_for_each_place(stack: Stack) -> tuple[Stack, list[Rejected]]:
    kept, rejected = stack[:1], []
    for item in stack[1:]:
        if item.z - kept[-1].z < SAME_Z:
            rejected.append(_reject(item, f"a second slice at the same position, z = {item.z:.1f} mm"))
        else:
            kept.append(item)
    return kept, rejected


def _reject(item: CTSlice, reason: str) -> Rejected:
    return Rejected(item.path, reason, item.patient, item.study, item.series)


def _notes(stack: Stack) -> tuple[str, ...]:
    notes = {note: None for item in stack for note in item.notes}
    gaps = np.diff([item.z for item in stack])
    if len(gaps):
        usual = np.median(gaps)
        if missing := int(np.sum(np.maximum(np.rint(gaps / usual) - 1, 0))):
            notes[f"{missing} slices missing between others"] = None
        if np.any(np.abs(gaps / usual - np.rint(gaps / usual)) > 0.1):
            notes["spacing varies"] = None
    return tuple(notes)
