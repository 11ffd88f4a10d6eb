"""`davy feedback`: what a user says, written into the Release, from where the controller counts it."""

from __future__ import annotations

import secrets

import msgspec

from davylamp.api.types import Release, UserVote
from davylamp.cli.exits import FAILED, OK, REFUSED, Failure
from davylamp.cli.session import Where, session
from davylamp.core.actions import Patch, Ref
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Api

MOST = 200
"""Votes that a Release holds."""
TRIES = 5
"""When others vote in the same moment."""


class Said(msgspec.Struct, frozen=True):
    """`user` may be empty: somebody who has not voted yet."""

    bad: bool
    note: str = ""
    user: str = ""
    stable: bool = False


async def feedback(where: Where, name: str, said: Said) -> int:
    """Write the vote. Raises Failure with REFUSED where no release that counts votes is under way."""
    async with session(where) as here:
        picture, workload = await here.workload(name)
        world = picture.world(here.namespace, workload)
        release = world.release
        if release is None or not release.active:
            raise Failure(f"no release of {here.namespace}/{workload} is under way", REFUSED)
        _takes_feedback(release)
        vote = UserVote(
            time=picture.now,
            user=said.user or secrets.token_hex(8),
            bad=said.bad,
            stable=said.stable,
            note=said.note[:1024],
            by=await here.who(),
        )
        await _put(here.api, release, vote)
        version = release.spec.stable.image if said.stable else release.spec.canary.image
        kind = "a complaint" if said.bad else "praise"
        here.screen.say(
            f"{here.namespace}/{workload}: {kind} about {version} was passed on to release {release.metadata.name}"
        )
        return OK


def _takes_feedback(release: Release) -> None:
    analysis = release.spec.analysis
    if analysis is None or all(check.feedback is None for check in analysis.checks):
        hint = "its policy's analysis has no check `feedback: {}`"
        raise Failure(f"release {release.metadata.name} counts no votes: {hint}", REFUSED)


async def _put(api: Api, release: Release, vote: UserVote) -> None:
    ref = Ref("Release", release.metadata.namespace, release.metadata.name)
    for _ in range(TRIES):
        votes = (*release.spec.feedback, vote)
        if len(votes) > MOST:
            raise Failure(f"release {ref.name} holds {MOST} votes already; send more to POST /feedback", REFUSED)
        patch = {
            "metadata": {"resourceVersion": release.metadata.resource_version},
            "spec": {"feedback": msgspec.to_builtins(votes)},
        }
        try:
            await api.patch(Patch(ref, patch))
        except ApiError as error:
            if not error.conflict:
                raise
        else:
            return
        release = await api.read(ref) or release
    raise Failure(f"release {ref.name} changes all the time; try again", FAILED)
