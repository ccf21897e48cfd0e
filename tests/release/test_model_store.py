"""Versions in an object store, which run directories of several machines share: whole or absent, numbered once, removed once."""
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.object_store import local_s3, needs_s3
from tfrec.config import load_config
from tfrec.errors import ConfigError, ServingError, UsageError
from tfrec.release.file_digests import digests
from tfrec.release.follow import fetch, follow_in_background
from tfrec.release.manifest import Manifest, read_manifest, write_manifest
from tfrec.release.model_store import ModelStore
from tfrec.release.publish import prune, publish, pull, rollback, versions

pytestmark = needs_s3
DIES = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from unittest import mock
    import obstore
    from tfrec.release.model_store import ModelStore
    from tfrec.release.publish import publish
    export, base, url, until = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    written = []
    def put(store, path, *words, real=obstore.put, **named):
        if len(written) == until:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(path)
        return real(store, path, *words, **named)
    for number in range(until + 1):
        child = os.fork()  # before anything talks to the store: its threads would not survive
        if not child:
            until, written = number, []
            with mock.patch("obstore.put", put), mock.patch("tfrec.release.publish.verify"):
                publish(export, base, store=ModelStore(url))
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)
        sys.stdin.readline()
""")


@pytest.fixture(scope="module")
def urls() -> Iterator[Iterator[str]]:
    with local_s3():
        yield (f"s3://bucket/models-{n}" for n in count())


@pytest.fixture
def store(urls: Iterator[str]) -> ModelStore:
    return ModelStore(f"{next(urls)}/m")


@pytest.fixture(autouse=True)
def verified() -> Iterator[None]:
    with mock.patch("tfrec.release.publish.verify"):
        yield


def export(directory: Path, *, weights: str = "w", identity: str | None = None) -> Path:
    for name, text in {"saved_model.pb": "graph", "variables/data": weights, "variables/index": "", "checkpoint/meta.json": "{}",
                       "assets/vocab é.txt": "words"}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    write_manifest(directory, Manifest(created_at=1, identity=identity, files=digests(directory)))
    return directory


def files(version: Path) -> dict[str, bytes]:
    return {path.relative_to(version).as_posix(): path.read_bytes() for path in version.rglob("*") if path.is_file()}


def test_a_version_is_the_same_in_the_store_and_on_every_machine(store: ModelStore, tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "m", tmp_path / "other" / "m"
    assert publish(export(tmp_path / "a"), one, store=store) == 1
    pull(other, store)
    assert publish(export(tmp_path / "b", weights="new"), other, store=store) == 2
    pull(one, store)
    assert (versions(one), versions(other), store.versions()) == ([1, 2], [1, 2], [1, 2])
    for number in ("1", "2"):
        assert files(one / number) == files(other / number)
    assert read_manifest(one / "2").version == 2
    assert (one / "2" / "saved_model.pb").samefile(one / "1" / "saved_model.pb")  # not fetched again
    assert not (one / "2" / "variables" / "data").samefile(one / "1" / "variables" / "data")
    assert sorted(path.name for path in one.parent.iterdir()) == [".m-shared", "m"]


def test_the_newest_are_fetched_or_all(store: ModelStore, tmp_path: Path) -> None:
    for n in range(3):
        publish(export(tmp_path / str(n), weights=str(n)), tmp_path / "one" / "m", store=store)
    other = tmp_path / "other" / "m"
    found = []
    for newest in (1, 2, None):
        pull(other, store, newest=newest)
        found.append(versions(other))
    assert found == [[3], [2, 3], [1, 2, 3]]
    pull(tmp_path / "third" / "m", None)
    assert not (tmp_path / "third").exists()


def test_a_publisher_killed_at_any_write_leaves_no_half_version_and_its_rerun_completes_it(
    store: ModelStore, tmp_path: Path
) -> None:
    first, base, other = export(tmp_path / "a"), tmp_path / "one" / "m", tmp_path / "other" / "m"
    publish(first, base, store=store)
    made, writes = export(tmp_path / "b", weights="new", identity="job"), 4  # the number, the weights, the manifest, and one more
    words = [sys.executable, "-c", DIES, str(made), str(base), store.url, str(writes)]
    ended = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(writes + 1):
            ended.append(int(process.stdout.readline()))
            pull(other, store)
            for number in versions(other):  # whatever is seen is whole
                assert files(other / str(number)).keys() == {*read_manifest(other / str(number)).files, "manifest.json"}
            process.stdin.write("\n")
            process.stdin.flush()
    assert ended[0] == signal.SIGKILL
    number = publish(made, base, store=store)
    assert [read_manifest(base / str(one)).identity for one in versions(base)] == [None, "job"]
    pull(other, store)
    assert store.versions() == versions(base) == versions(other) == [1, number]


def test_machines_that_publish_at_once_get_numbers_of_their_own(store: ModelStore, tmp_path: Path) -> None:
    made = [export(tmp_path / f"export{n}", weights=str(n)) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda n: publish(made[n], tmp_path / f"machine{n}" / "m", store=store), range(4)))
    assert len(set(given)) == 4
    pull(tmp_path / "fifth" / "m", store, newest=None)
    assert {files(tmp_path / "fifth" / "m" / str(number))["variables/data"] for number in given} == {b"0", b"1", b"2", b"3"}


def test_retention_on_one_machine_reaches_the_others(store: ModelStore, tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "m", tmp_path / "other" / "m"
    for n in range(4):
        publish(export(tmp_path / str(n), weights=str(n)), one, store=store)
    pull(other, store, newest=None)
    assert prune(one, keep=2, spare={1}, store=store) == [2]
    assert store.versions() == versions(one) == [1, 3, 4]
    pull(other, store)
    assert versions(other) == [1, 3, 4]
    store.remove(4)  # by hand: it must not come back, and is used until there is a newer one
    for base in (one, other, one):
        pull(base, store)
        assert (versions(base), store.versions()) == ([1, 3, 4], [1, 3])
    assert publish(export(tmp_path / "new"), other, store=store) == 5
    pull(one, store)
    pull(other, store)
    assert versions(one) == versions(other) == store.versions() == [1, 3, 5]


def test_rollback_on_a_machine_that_has_nothing(store: ModelStore, tmp_path: Path) -> None:
    for n in range(2):
        publish(export(tmp_path / str(n), weights=str(n)), tmp_path / "one" / "m", store=store)
    other = tmp_path / "other" / "m"
    assert rollback(other, now=9, store=store) == 3
    manifest = read_manifest(other / "3")
    assert (manifest.copy_of, manifest.rolled_back_from, files(other / "3")["variables/data"]) == (1, 2, b"0")
    assert rollback(tmp_path / "third" / "m", to=1, now=9, store=store) == 3  # it is that copy already
    with pytest.raises(UsageError, match="cannot roll back to version 7"):
        rollback(other, to=7, now=9, store=store)


def test_what_a_killed_publisher_left_is_removed_once_it_is_old(store: ModelStore, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    base, made = tmp_path / "m", export(tmp_path / "a")
    publish(made, base, store=store)
    manifest = read_manifest(made).model_copy(update={"version": 2, "identity": "of another machine"})
    assert store.claim(2, manifest)
    assert not store.claim(2, read_manifest(made))
    shutil.copytree(made, tmp_path / "2")
    with mock.patch("obstore.copy", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        store.push(tmp_path / "2", manifest)
    assert prune(base, keep=2, store=store) == []
    now = time.time()
    monkeypatch.setattr("tfrec.release.model_store.time.time", lambda: now + 7200)
    prune(base, keep=2, store=store)
    assert store.abandoned() == []
    assert store.versions() == [1]


def test_a_damaged_file_is_named_and_nothing_of_it_stays(store: ModelStore, tmp_path: Path) -> None:
    import obstore

    publish(export(tmp_path / "a"), tmp_path / "one" / "m", store=store)
    obstore.put(obstore.store.from_url(store.url), "1/variables/data", b"other weights")
    other = tmp_path / "other" / "m"
    with pytest.raises(ServingError, match=r"m/1/variables/data: is not what was published: its SHA-256"):
        pull(other, store)
    assert versions(other) == []
    assert sorted(path.name for path in other.parent.iterdir()) == ["m"]
    obstore.delete(obstore.store.from_url(store.url), "1/variables/data")
    with pytest.raises(ServingError, match=r"m/1/variables/data: is missing"):
        pull(other, store)


def test_versions_from_before_there_was_a_store_are_shared_and_others_of_the_same_number_refused(
    store: ModelStore, tmp_path: Path
) -> None:
    one, other = tmp_path / "one" / "m", tmp_path / "other" / "m"
    for base in (one, other):
        publish(export(tmp_path / base.parent.name / "export", weights=base.parent.name), base)
    pull(one, store)
    assert store.versions() == [1]
    with pytest.raises(ServingError, match=r"other/m/1: is another version than s3://.*/m/1\. Each was published"):
        pull(other, store)
    assert files(other / "1")["variables/data"] == b"other"


def test_a_store_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"s3://no-such-bucket/m: the object store cannot be used \(.*NoSuchBucket"):
        pull(tmp_path / "m", ModelStore("s3://no-such-bucket/m"))
    with mock.patch.dict(sys.modules, {"obstore": None}), pytest.raises(UsageError, match=r"pip install 'tfrec\[object-store\]'"):
        ModelStore("s3://bucket/m")
    with pytest.raises(ConfigError, match=r"serving\.models must be a URL that begins with s3://"):
        load_config(None, ["serving.models=/mnt/models"])
    with pytest.raises(UsageError, match=r"serving\.models names no object store"):
        fetch(load_config(None, [f"run={tmp_path}"]))


def test_commands_publish_to_the_store_and_a_server_elsewhere_follows(
    store: ModelStore, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    """The model server is a stand-in that does nothing: what is looked at is the directory that it would read."""
    url = store.url.removesuffix("/m")
    shared = ("--set", f"serving.models={url}", "--set", "serving.model_name=m")
    job, served = tmp_path / "job", tmp_path / "served"
    code, printed, said = call("publish", export(tmp_path / "a"), "--set", f"run={job}", *shared, "--json")
    assert (code, '"version": 1' in printed) == (0, True), said
    stand_in = tmp_path / "server"
    stand_in.write_text("#!/bin/sh\nexec sleep 100\n")
    stand_in.chmod(0o755)
    words = [sys.executable, "-m", "tfrec", "serve", "--set", f"run={served}", *shared]
    with subprocess.Popen(words, env=os.environ | {"TFREC_MODEL_SERVER": str(stand_in)}, stderr=subprocess.DEVNULL) as server:
        base = served / "models" / "m"
        wait_for(lambda: versions(base) == [1])
        assert call("publish", export(tmp_path / "b", weights="b"), "--set", f"run={job}", *shared)[0] == 0
        wait_for(lambda: versions(base) == [1, 2])
        server.kill()
    assert call("rollback", "--set", f"run={tmp_path / 'third'}", *shared)[0] == 0
    code, printed, said = call("pull", "--set", f"run={job}", *shared, "--json")
    assert (code, "".join(printed.split())) == (0, '{"versions":[1,2,3]}'), said
    code, printed, said = call("status", "--set", f"run={tmp_path / 'none'}", *shared, "--json")
    assert (code, [line["version"] for line in json.loads(printed)["versions"]]) == (0, [3, 2, 1]), said
    assert not (tmp_path / "none").exists()  # nothing is fetched to be listed
    gateway = load_config(None, [f"run={tmp_path / 'gateway'}", f"serving.models={url}", "serving.model_name=m"])
    follow_in_background(gateway).set()
    assert versions(gateway.models_dir) == [1, 2, 3]


def wait_for(happened: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)
