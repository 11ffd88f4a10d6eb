"""How many finished Releases of a Deployment are kept."""

from __future__ import annotations

from collections.abc import Sequence

from davylamp.api.types import Release
from davylamp.core import names
from davylamp.core.actions import Action, Delete, Patch, Ref

DEFAULT_LIMIT = 10


def prune(releases: Sequence[Release], limit: int) -> tuple[Action, ...]:
    """The writes that leave `limit` finished Releases of one Deployment (`releases`, oldest first).

    The newest stays in any case: it may be what keeps a rejected template from being tried again. A finished one
    that somebody deletes is let go, since nothing of it is left that could have traffic.
    """
    finished = [release for release in releases if not release.active]
    actions: list[Action] = []
    surplus = finished[: max(0, len(finished) - max(limit, 1))]
    for release in finished:
        meta = release.metadata
        ref = Ref("Release", meta.namespace, meta.name)
        going = meta.deletion_timestamp is not None
        if (going or release in surplus) and names.FINALIZER in meta.finalizers:
            kept = [name for name in meta.finalizers if name != names.FINALIZER]
            actions.append(Patch(ref, {"metadata": {"finalizers": kept or None}}))
        if release in surplus and not going:
            actions.append(Delete(ref, meta.uid))
    return tuple(actions)
