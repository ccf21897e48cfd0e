"""Processes that begin with TensorFlow imported: forked from one that has imported it and never uses it.

To import TensorFlow is most of the time of a server that answers a few requests. What is forked is a process of its own, and a
child of the process that asked for it, as one that `subprocess.Popen` starts. That a server starts from nothing is for
tests/model_server/test_server.py and tests/test_shop.py to say.
"""
import ctypes
import json
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import IO
from unittest import mock

ROOT = Path(__file__).parents[1]
LARGEST = 1 << 20  # bytes of a request
SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER: whoever is orphaned below becomes a child of the caller


class Forked:
    """What the callers of `subprocess.Popen` use of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("forked", timeout or 0.0)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)


class Forks:
    """Forks processes from one that has imported TensorFlow, which starts with the first of them."""

    def __init__(self) -> None:
        self._parent: subprocess.Popen[bytes] | None = None
        self._ours: socket.socket | None = None

    def start(self, words: Sequence[str], *, stdin: int | IO[bytes] = subprocess.DEVNULL, stdout: IO[bytes], stderr: IO[bytes],
              env: Mapping[str, str] | None = None, cwd: Path | None = None,
              start_new_session: bool = False) -> "Forked | subprocess.Popen[bytes]":
        """As `subprocess.Popen`. What is not this Python, or not this system's way, starts from nothing."""
        if sys.platform != "linux" or words[0] != sys.executable or start_new_session:
            return subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd,
                                    start_new_session=start_new_session)
        if self._ours is None:
            self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # Python warns of a fork beside other threads: those of libraries that are imported, and do not work yet
            command = [sys.executable, "-W", "ignore::DeprecationWarning", __file__, str(theirs.fileno()), str(os.getpid())]
            self._parent = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=os.environ | {"PYTHONPATH": str(ROOT)})
            theirs.close()
        asked = {"words": list(words[1:]), "env": dict(os.environ if env is None else env), "cwd": str(cwd or Path.cwd())}
        libc = ctypes.CDLL(None)
        libc.prctl(SUBREAPER, 1, 0, 0, 0)
        try:
            with open(os.devnull, "rb") as nothing:
                given = nothing if isinstance(stdin, int) else stdin
                socket.send_fds(self._ours, [json.dumps(asked).encode()], [file.fileno() for file in (given, stdout, stderr)])
                return Forked(int(self._ours.recv(LARGEST)))
        finally:
            libc.prctl(SUBREAPER, 0, 0, 0, 0)  # tests of orphans have theirs adopted by init

    def run(self, words: Sequence[str], *, text: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None,
            timeout: float) -> "subprocess.CompletedProcess[str]":
        """As `subprocess.run`, with its output captured; `text` is on its standard input."""
        with ExitStack() as files:
            given, out, err = (files.enter_context(TemporaryFile()) for _ in range(3))
            given.write(text.encode())
            given.seek(0)
            process = self.start(words, stdin=given, stdout=out, stderr=err, env=env, cwd=cwd)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            said = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
        return subprocess.CompletedProcess(list(words), code, *said)

    def close(self) -> None:
        """End the process that is forked."""
        if self._ours is not None and self._parent is not None:
            self._ours.close()
            self._parent.wait(30)

    @contextmanager
    def servers(self) -> Iterator[None]:
        """Within the block, `ServerProcess` and the gateways of the demo are forked."""
        names = ("DEVNULL", "TimeoutExpired")
        started = SimpleNamespace(Popen=self.start, **{name: getattr(subprocess, name) for name in names})
        with mock.patch("tfrec.model_server.process.subprocess", started), mock.patch("tfrec.demo.servers.subprocess", started):
            yield


def be(words: list[str], env: dict[str, str], cwd: str, fds: list[int], asker: int) -> None:
    """Be a Python that has these words."""
    while os.getppid() != asker:  # the process between has not ended
        time.sleep(0.001)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    way, *more = words
    sys.path[0] = str(Path(way).parent) if way.endswith(".py") else cwd
    sys.path[1:1] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.argv[:] = words if way.endswith(".py") else words[1:]
    code = 0
    try:
        if way == "-m":
            runpy.run_module(more[0], run_name="__main__", alter_sys=True)
        elif way == "-c":
            exec(more[0], {"__name__": "__main__"})
        else:
            runpy.run_path(way, run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def answer(request: bytes, fds: list[int], asker: int) -> int:
    """Fork what is asked for, by way of a process that ends at once; returns its id."""
    asked, (reader, writer) = json.loads(request), os.pipe()
    between = os.fork()
    if not between:
        child = os.fork()
        if not child:
            be(asked["words"], asked["env"], asked["cwd"], fds, asker)
        os.write(writer, str(child).encode())
        os._exit(0)
    os.waitpid(between, 0)
    pid = int(os.read(reader, 32))
    for fd in (reader, writer, *fds):
        os.close(fd)
    return pid


if __name__ == "__main__":
    import tfrec.gateway.serve
    import tfrec.model_server.embedded
    import tfrec.retrain  # noqa: F401  TensorFlow

    asker = int(sys.argv[2])
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        while True:
            request, fds, *_ = socket.recv_fds(asking, LARGEST, 3)
            if not request:
                break
            asking.send(str(answer(request, fds, asker)).encode())
