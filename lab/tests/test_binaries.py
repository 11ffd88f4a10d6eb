"""Where the binaries come from; nothing is built here."""

from __future__ import annotations

from pathlib import Path

import pytest

from davylab import LabError, binaries


def fill(folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch(mode=0o755)
    return folder


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No assets, an empty cache, no Go."""
    for name in ("DAVYLAB_ASSETS", "KUBEBUILDER_ASSETS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


def test_a_whole_assets_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "assets", binaries.NAMES)
    monkeypatch.setenv("DAVYLAB_ASSETS", str(folder))
    assert binaries.find_or_build().scheduler == folder / "kube-scheduler"


def test_an_incomplete_assets_folder_of_ours_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAVYLAB_ASSETS", str(fill(tmp_path / "assets", ("etcd", "kube-apiserver"))))
    with pytest.raises(LabError, match="lacks kube-controller-manager, kube-scheduler"):
        binaries.find_or_build()


def test_an_incomplete_kubebuilder_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(fill(tmp_path / "envtest", ("etcd", "kube-apiserver"))))
    cached = fill(binaries.cache_root() / binaries.version_key(), binaries.NAMES)
    assert binaries.find_or_build().etcd == cached / "etcd"


def test_without_go_the_error_names_the_ways_out() -> None:
    with pytest.raises(LabError) as caught:
        binaries.find_or_build()
    for way in ("install Go", "DAVYLAB_ASSETS", "copy the folder"):
        assert way in str(caught.value)


def test_istiod_comes_from_an_assets_folder_that_has_it_or_else_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAVYLAB_ASSETS", str(fill(tmp_path / "assets", binaries.NAMES)))
    with pytest.raises(LabError, match="missing: pilot-discovery"):
        binaries.find_or_build_istiod()
    version = binaries.versions()["istio"]["version"]
    (half_made,) = binaries.cache_root().glob(f"istio-{version}-*")
    (half_made / binaries.ISTIOD).touch(mode=0o755)
    assert binaries.find_or_build_istiod() == half_made / binaries.ISTIOD
    (tmp_path / "assets" / binaries.ISTIOD).touch(mode=0o755)
    assert binaries.find_or_build_istiod() == tmp_path / "assets" / binaries.ISTIOD


def test_staging_modules_are_replaced_by_their_published_versions() -> None:
    upstream = "go 1.26.0\n\ngodebug default=go1.26\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n"
    pin = {"module": "k8s.io/kubernetes", "version": "v1.37.2", "staging": "v0.37.2"}
    assert binaries.go_mod(pin, upstream).splitlines() == [
        "module davylab",
        "",
        "go 1.26.0",
        "",
        "godebug default=go1.26",
        "",
        "require k8s.io/kubernetes v1.37.2",
        "",
        "replace k8s.io/api => k8s.io/api v0.37.2",
    ]
