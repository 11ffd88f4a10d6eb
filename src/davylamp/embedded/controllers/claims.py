"""Whose an object is: adopting what matches and nobody has, releasing what doesn't match any more.

After pkg/controller/controller_ref_manager.go of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Sequence

from davylamp.embedded.controllers.objects import (
    Object,
    controller,
    controller_reference,
    deleted,
    labels,
    owners,
    selects,
    uid,
    with_meta,
)
from davylamp.embedded.controllers.writes import Update, Write


def claim(owner: Object, selector: Object | None, candidates: Sequence[Object]) -> tuple[list[Object], list[Write]]:
    """Of `candidates`, what `owner` has now, and the writes that adopt and release others."""
    mine: list[Object] = []
    writes: list[Write] = []
    for obj in candidates:
        by = controller(obj)
        matches = selects(selector, labels(obj))
        if by is None:
            if matches and not deleted(owner) and not deleted(obj):
                writes.append(Update(with_meta(obj, ownerReferences=[*owners(obj), controller_reference(owner)])))
        elif by["uid"] == uid(owner):
            if matches:
                mine.append(obj)
            elif not deleted(owner):
                left = [other for other in owners(obj) if other["uid"] != uid(owner)]
                writes.append(Update(with_meta(obj, ownerReferences=left or None)))
    return mine, writes
