"""Publishing on directories whose verification is the test's own: numbers, renames, rollbacks, what a kill leaves behind."""
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.errors import ServingError, UsageError
from tfrec.release.file_digests import digests
from tfrec.release.manifest import Manifest, read_manifest, write_manifest
from tfrec.release.publish import newest_dir, next_version, prune, publish, rollback, version_of, versions


@pytest.fixture(autouse=True)
def verified(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    monkeypatch.setattr("tfrec.release.publish.verify", lambda export, *, seconds, parent=None: seen.append(export))
    return seen


def export(directory: Path, *, weights: str = "w", identity: str | None = None) -> Path:
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_text("graph")
    (directory / "variables" / "data").write_text(weights)
    write_manifest(directory, Manifest(created_at=1, identity=identity, files=digests(directory)))
    return directory


def weights_of(base: Path, number: int) -> str:
    return (base / str(number) / "variables" / "data").read_text()


def test_versions_grow_and_share_files(tmp_path: Path, verified: list[Path]) -> None:
    base = tmp_path / "models" / "m"
    assert versions(base) == []
    assert (next_version(base), newest_dir(base)) == (1, None)
    made = export(tmp_path / "export")
    assert [publish(made, base), publish(made, base)] == [1, 2]
    assert verified == [made, made]
    assert versions(base) == [1, 2]
    assert newest_dir(base) == base / "2"
    assert read_manifest(base / "2").version == 2
    assert read_manifest(made).version is None
    assert (base / "1" / "variables" / "data").samefile(made / "variables" / "data")
    assert sorted(path.name for path in base.parent.iterdir()) == ["m"]


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    made = export(tmp_path / "export")
    publish(made, tmp_path / "m")
    publish(made, tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "2")
    assert publish(made, tmp_path / "m") == 3


def test_what_is_not_verified_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(export: Path, *, seconds: float, parent: Path | None) -> None:
        raise ServingError("answers otherwise")

    monkeypatch.setattr("tfrec.release.publish.verify", refuse)
    with pytest.raises(ServingError, match="answers otherwise"):
        publish(export(tmp_path / "export"), tmp_path / "m")
    assert versions(tmp_path / "m") == []


def test_the_same_identity_is_published_once(tmp_path: Path, verified: list[Path]) -> None:
    made = export(tmp_path / "export", identity="intent-1")
    assert [publish(made, tmp_path / "m"), publish(made, tmp_path / "m")] == [1, 1]
    assert len(verified) == 1
    assert version_of(tmp_path / "m", "intent-1") == 1
    assert version_of(tmp_path / "m", "intent-2") is None


def test_rollback_is_a_copy_under_a_new_number(tmp_path: Path) -> None:
    base = tmp_path / "m"
    for number in (1, 2, 3):
        publish(export(tmp_path / f"e{number}", weights=f"w{number}", identity=f"i{number}"), base)
    assert rollback(base, now=50) == 4
    assert weights_of(base, 4) == "w2"
    manifest = read_manifest(base / "4")
    assert (manifest.version, manifest.copy_of, manifest.rolled_back_from, manifest.created_at) == (4, 2, 3, 50)
    assert version_of(base, "i2") == 2
    assert rollback(base, now=60) == 5  # once more goes further back
    assert weights_of(base, 5) == "w1"
    assert rollback(base, 3, now=70) == 6
    assert weights_of(base, 6) == "w3"


def test_a_rollback_that_is_asked_for_again_goes_no_further_back(tmp_path: Path) -> None:
    base = tmp_path / "m"
    for number in (1, 2, 3):
        publish(export(tmp_path / f"e{number}", weights=f"w{number}"), base)

    def killed(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollback(base, now=50, told=killed)
    told: list[int] = []
    assert rollback(base, now=60, told=told.append) == 4
    assert (told, versions(base), weights_of(base, 4)) == ([4], [1, 2, 3, 4], "w2")
    assert rollback(base, now=70) == 5  # told, and asked for once more
    assert weights_of(base, 5) == "w1"
    assert [rollback(base, 1, now=80), rollback(base, 1, now=90)] == [5, 5]  # that is what the newest is


def test_a_rollback_killed_before_its_version_appears_is_done_when_asked_for_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "m"
    for number in (1, 2, 3):
        publish(export(tmp_path / f"e{number}", weights=f"w{number}"), base)
    with monkeypatch.context() as patched:
        patched.setattr("tfrec.release.publish.write_manifest", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rollback(base, now=50)
    assert (rollback(base, now=60), weights_of(base, 4)) == (4, "w2")
    assert {path.name for path in base.iterdir()} == {".last_version", "1", "2", "3", "4"}
    assert [path.name for path in base.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda version: (version / "variables" / "data").write_text("W"), "variables/data: is not what was exported"),
        (lambda version: (version / "variables" / "data").unlink(), "variables/data: is missing"),
        (lambda version: (version / "saved_model.pb").write_text(""), "saved_model.pb: is not what was exported"),
        (lambda version: (version / "assets").write_text(""), "assets: is not a file of this version"),
    ],
)
def test_a_damaged_version_is_not_published_again_by_a_rollback(
        tmp_path: Path, damage: Callable[[Path], object], told: str) -> None:
    base = tmp_path / "m"
    for number in (1, 2):
        made = export(tmp_path / f"e{number}", weights=f"w{number}")
        publish(made, base)
    damage(base / "1")
    with pytest.raises(ServingError, match=told):
        rollback(base, now=50)
    assert versions(base) == [1, 2]


def test_one_version_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(export(tmp_path / "e1", identity="i1"), base)
    publish(export(tmp_path / "e2", identity="i2"), base)
    (base / "2" / "manifest.json").write_text("{")
    assert (version_of(base, "i1"), version_of(base, "i2")) == (1, None)
    assert publish(export(tmp_path / "e3", identity="i3"), base) == 3


def test_a_rollback_goes_on_after_the_window_of_what_it_replaces(tmp_path: Path) -> None:
    base = tmp_path / "m"
    for number, window in enumerate([None, {"now": 100}, {"now": 200}, None], 1):
        made = export(tmp_path / f"e{number}")
        write_manifest(made, read_manifest(made).model_copy(update={"window": window}))
        publish(made, base)
    for to, expected in [(3, 200), (2, 200), (1, 200), (4, 200)]:  # the 5th replaces a new training, which learnt no window
        number = rollback(base, to, now=300)
        assert read_manifest(base / str(number)).window == {"now": expected}
    fresh = tmp_path / "fresh"
    publish(export(tmp_path / "f1"), fresh)
    publish(export(tmp_path / "f2"), fresh)
    assert read_manifest(fresh / str(rollback(fresh, now=300))).window is None


def test_what_was_learnt_of_slates_never_falls_from_version_to_version(tmp_path: Path) -> None:
    base = tmp_path / "m"
    for number, until in enumerate([0, 300, 200], 1):
        made = export(tmp_path / f"e{number}")
        write_manifest(made, read_manifest(made).model_copy(update={"slates_until": until}))
        publish(made, base)
    found = [read_manifest(base / str(rollback(base, to, now=9))).slates_until for to in (1, 2, 1)]
    assert found == [200, 300, 300]


def test_rollbacks_that_cannot_be(tmp_path: Path) -> None:
    base = tmp_path / "m"
    with pytest.raises(UsageError, match="nothing to roll back"):
        rollback(base, now=1)
    publish(export(tmp_path / "e"), base)
    with pytest.raises(UsageError, match="no version before 1"):
        rollback(base, now=1)
    with pytest.raises(UsageError, match="cannot roll back to version 9. Choose an older one of 1"):
        rollback(base, 9, now=1)


def test_prune_keeps_the_newest_and_the_spared(tmp_path: Path) -> None:
    made = export(tmp_path / "export")
    for _ in range(5):
        publish(made, tmp_path / "m")
    assert prune(tmp_path / "m", keep=2, spare=(1,)) == [2, 3]
    assert versions(tmp_path / "m") == [1, 4, 5]
    assert prune(tmp_path / "m", keep=9) == []
    assert weights_of(tmp_path / "m", 5) == "w"
    with pytest.raises(UsageError, match="keep must be at least 1"):
        prune(tmp_path / "m", keep=0)


def test_leftovers_of_a_killed_publisher_are_swept(tmp_path: Path) -> None:
    made = export(tmp_path / "export")
    left = tmp_path / ".m-staging-1"
    shutil.copytree(made, left)
    assert publish(made, tmp_path / "m") == 1
    assert not left.exists()


def test_copies_where_links_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    publish(export(tmp_path / "export"), tmp_path / "m")
    assert weights_of(tmp_path / "m", 1) == "w"


def test_concurrent_publishers_take_different_numbers(tmp_path: Path) -> None:
    made = export(tmp_path / "export")
    script = f"""
from tfrec.release import publish
publish.verify = lambda export, *, seconds, parent=None: 0
for _ in range(5):
    publish.publish({str(made)!r}, {str(tmp_path / "m")!r})
"""
    workers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert versions(tmp_path / "m") == list(range(1, 16))


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(st.sampled_from(["publish", "rollback", "prune", "remove newest"]), max_size=12))
def test_the_newest_number_only_grows(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    root = tmp_path_factory.mktemp("law")
    base = root / "m"
    made = export(root / "export")
    given_numbers: list[int] = []
    for step in steps:
        if step == "publish":
            given_numbers.append(publish(made, base))
        elif step == "rollback" and len(versions(base)) > 1 and (read_manifest(base / str(versions(base)[-1])).copy_of is None):
            given_numbers.append(rollback(base, now=1))
        elif step == "prune" and base.exists():
            prune(base, keep=2)
        elif step == "remove newest" and versions(base):
            shutil.rmtree(base / str(versions(base)[-1]))
    assert given_numbers == list(range(1, len(given_numbers) + 1))
