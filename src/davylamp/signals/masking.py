"""What must not be kept of a log line (`safe`), and what must not tell two like messages apart (`shape`).

`safe` is applied to all that is kept or shown of a log: passwords, tokens and keys, credentials and query strings in
addresses, e-mail addresses, card-like numbers. It rather takes too much: an example line loses a word at most.
"""

from __future__ import annotations

import re

_NAMES = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|auth|authorization"
    r"|credentials?|session(?:[-_.]?id)?|cookie|signature|sig|sas|otp|pin|iban|ssn"
)
_VALUE = r"""(?:(?:bearer|basic|digest|token)\s+)?(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,;&)}\]]+)"""

_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        (r"(?s:-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z))", "<secret>"),
        (rf"""(["']?)\b([\w.-]{{0,40}}(?:{_NAMES})[\w-]{{0,40}})\1(\s*(?:=>|[:=])\s*){_VALUE}""", r"\2\3<secret>"),
        (r"\b(bearer|basic|digest)\s+[\w.~+/=-]{6,}", r"\1 <secret>"),
        (r"(?<=://)[^\s/@]+@", "<secret>@"),
        (r"\beyJ[\w-]{8,}(?:\.[\w-]+){1,4}", "<token>"),
        (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\b(?:gh[pousr]|xox[abprs]|sk|pk|rk|glpat)[-_][\w-]{10,}", "<token>"),
        (r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", "<email>"),
        (r"(?<=[\w/])\?[^\s\"'<>|]*", "?<query>"),
        (r"(?<![\w-])(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[\w-]{40,}", "<token>"),
        (r"(?<![\w+/])(?=[A-Za-z+/]*\d)[A-Za-z0-9+/]{40,}={0,2}", "<token>"),
        (r"(?<![\w.])(?:\d[ -]?){12,18}\d(?![\w.]?\d)", "<number>"),
    )
)
_TRIGGER = re.compile(
    rf"{_NAMES}|basic|bearer|digest|://|@|\?|eyJ|AKIA|ASIA|-----BEGIN|\d[\d -]{{11}}|[\w+/-]{{16}}|_", re.IGNORECASE
)
"""What a text without secrets has nothing of: most have not, and need not be looked through for each."""


def safe(text: str) -> str:
    """`text` without what looks like a secret or a person's data."""
    if _TRIGGER.search(text):
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
    return text


_TIME = (
    r"\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z| ?[+-]\d\d:?\d\d)?)?|\d\d:\d\d:\d\d(?:[.,]\d+)?"
)
_SHAPES = re.compile(
    rf"(?P<time>{_TIME})"
    r"|(?P<id>\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)[0-9a-f]{7,}\b)"
    r"|(?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[?\b(?:[0-9a-f]{1,4}:){3,7}:?[0-9a-f]{0,4}\b\]?)"
    r"|(?P<pod>\b[a-z][a-z0-9-]*-[bcdf0-9ghjklmnpqrstvwxz24-9]{6,10}-[bcdfghjklmnpqrstvwxz2-9]{5}\b)"
    r"|(?P<number>[-+]?(?<![A-Za-z_])\d+(?:[.,]\d+)*(?:e[-+]?\d+)?)",
    re.IGNORECASE,
)


def shape(text: str) -> str:
    """`text` with times, identifiers, addresses, names of pods and numbers replaced by what they are."""
    return _SHAPES.sub(lambda found: f"<{found.lastgroup}>", text)
