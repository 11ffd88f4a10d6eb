"""How a command ends: numbers for scripts, and one sentence for people."""

from __future__ import annotations

OK = 0
FAILED = 1
BAD_INPUT = 2
NOT_FOUND = 3
ROLLED_BACK = 4
TIMED_OUT = 5
REFUSED = 6
SUPERSEDED = 7
WITHDRAWN = 8
OVERRIDDEN = 9
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
BROKEN_PIPE = 141
"""128 + SIGPIPE: whoever read our output has gone."""

MEANINGS = {
    OK: "done; with --wait: the release completed (for abort: was taken back)",
    FAILED: "it failed: the cluster can't be reached, or forbids it",
    BAD_INPUT: "bad input: wrong options, or a policy that can't be used",
    NOT_FOUND: "not found: no such workload, or one without a policy",
    ROLLED_BACK: "the release was rolled back",
    TIMED_OUT: "--timeout passed first",
    REFUSED: "the command makes no sense now (nothing to approve, say)",
    SUPERSEDED: "the release ended because a newer template came",
    WITHDRAWN: "the release ended because its template was taken back",
    OVERRIDDEN: "the release ended because somebody resumed the Deployment",
}


class Failure(Exception):
    """Ends the command with `code`. The message is for people: the object, the field, what was found, what is right;
    one line, and further ones below it for a list of problems."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
