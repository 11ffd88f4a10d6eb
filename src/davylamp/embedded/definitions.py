"""The life of CRDs: their kinds are served from the write that defines them to the end of the last object."""

from __future__ import annotations

from typing import Any

from davylamp.embedded.crds import CLEANUP
from davylamp.embedded.protocol import Writes

Object = dict[str, Any]

KIND = "CustomResourceDefinition"


def follow(store: Writes, type_: str, crd: Object) -> None:
    """A listener of the store for CRDs."""
    if type_ == "DELETED":
        store.kinds.removed(crd)
        return
    store.kinds.defined(crd)
    if "deletionTimestamp" in crd["metadata"]:
        _clean_up(store, crd)


def _clean_up(store: Writes, crd: Object) -> None:
    """Delete all objects of the kind, then let the CRD go. (Objects with finalizers hold it.)"""
    meta, spec = crd["metadata"], crd["spec"]
    kind = store.resources.name_for(spec["group"], spec["names"]["kind"])
    if CLEANUP not in (meta.get("finalizers") or ()):
        return

    def let_go(*_: Any) -> None:
        found = store.get(KIND, "", meta["name"])
        if found is None or store.list(kind):
            return
        unsubscribe()
        kept = [name for name in found["metadata"].get("finalizers") or () if name != CLEANUP]
        store.patch(KIND, "", meta["name"], {"metadata": {"finalizers": kept}})

    unsubscribe = store.subscribe(let_go, kind)
    for obj in store.list(kind):
        if "deletionTimestamp" not in obj["metadata"]:
            store.delete(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
    let_go()
