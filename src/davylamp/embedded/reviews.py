"""Who is asking and what they may do. There is no authorization here: whoever is known may do everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]


def answer(plural: str, body: Object, user: str, tokens: Mapping[str, str]) -> Object:
    """The review that was sent, with its status."""
    if plural == "selfsubjectreviews":
        return {**body, "status": {"userInfo": _user(user)}}
    if plural == "tokenreviews":
        token = (body.get("spec") or {}).get("token", "")
        known = tokens.get(token)
        found = {"authenticated": True, "user": _user(known)} if known else {"authenticated": False}
        return {**body, "status": found}
    return {**body, "status": {"allowed": True, "reason": "the embedded API server has no authorization"}}


def _user(name: str) -> Object:
    groups = ["system:masters", "system:authenticated"]
    if name.startswith("system:serviceaccount:"):
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return {"username": name, "groups": groups}
