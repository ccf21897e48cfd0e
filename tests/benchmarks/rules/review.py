"""What the classifier of a review finds that the list does not: precision and recall, with a category in the place of harm.

    python tests/benchmarks/rules/review.py DATA [--texts msrd|banking77] [--decisions 100 200 400]
    python tests/benchmarks/rules/review.py DATA --scan 100000

DATA holds `msrd/movies-corpus.jsonl.gz` (films: title and overview; "harmful" is the genre Horror) and `banking77/train.csv`
(questions to a bank; "harmful" is what is lost, stolen or abused). A short list of words flags items. A reviewer who knows the
category decides so many of them, the approved and the rejected as they come. Then the classifier flags by the default settings.
Precision and recall are of the texts that nobody has decided on.

With `--scan` it measures scans of so many texts by the list, made of those of the films.
"""
import tfrec  # noqa: F401  # isort: skip  before anything imports TensorFlow: it chooses Keras 2
import argparse
import csv
import gzip
import json
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from tfrec.config import Config
from tfrec.data.records import Item
from tfrec.review.decide import decide
from tfrec.review.scan import scan
from tfrec.review.standing import ReviewState

LABELS = ("harmful",)
TERMS = {"msrd": ["horror", "zombie", "zombies", "vampire", "vampires", "haunted", "ghost", "demon", "evil", "blood", "monster",
                  "serial killer", "supernatural", "terror"],
         "banking77": ["stolen", "lost", "fraud", "compromised", "someone"]}
HARM = {"msrd": {"Horror"}, "banking77": {"compromised_card", "lost_or_stolen_card", "lost_or_stolen_phone",
                                            "cash_withdrawal_not_recognised", "card_payment_not_recognised"}}


def texts_of(data: Path, name: str) -> list[tuple[str, set[str]]]:
    """Texts with their categories."""
    if name == "banking77":
        with (data / "banking77" / "train.csv").open(encoding="utf-8") as file:
            return [(row["text"], {row["category"]}) for row in csv.DictReader(file)]
    with gzip.open(data / "msrd" / "movies-corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(f"{row['title']}. {row['overview']}", set(row["genres"])) for row in rows]


def measured(flagged: Collection[str], harmful: Collection[str]) -> str:
    hits = len(set(flagged) & set(harmful))
    return f"{hits / max(1, len(flagged)):.3f} {hits / max(1, len(harmful)):.3f} ({len(flagged):>5} flagged)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--texts", choices=sorted(TERMS), default="msrd")
    parser.add_argument("--decisions", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--scan", type=int, metavar="ITEMS", help="measure scans of so many items instead")
    options = parser.parse_args()
    if options.scan:
        time_scans(texts_of(options.data, "msrd"), options.scan)
        return
    found = texts_of(options.data, options.texts)
    items = [Item(id=str(number), text=text) for number, (text, _) in enumerate(found)]
    harmful = {str(number) for number, (_, kinds) in enumerate(found) if kinds & HARM[options.texts]}
    root = Path(tempfile.mkdtemp())
    (root / "terms.toml").write_text(f"harmful = {json.dumps(TERMS[options.texts])}\n")
    config = Config.model_validate({"run": root / "run", "review": {"terms": root / "terms.toml", "labels": LABELS}})
    began, used = time.perf_counter(), time.process_time()
    scan(config, items, now=0)
    print(f"{options.texts}: {len(items)} texts, {len(harmful)} harmful; the list took {time.process_time() - used:.1f} s "
          f"of the processor, {time.perf_counter() - began:.1f} s")
    print("decisions (rejected)   the list: precision recall        the classifier: precision recall     both: precision recall")
    for count in options.decisions:
        state = ReviewState.of(config.run)
        done = sum(1 for _ in state.decisions())
        for one in state.waiting()[: count - done]:
            item = one.flag.item
            decide(state, item, "reject" if item in harmful else "approve", now=1, labels=LABELS, who="reviewer")
        began, used = time.perf_counter(), time.process_time()
        scan(config, items, now=2)
        took = time.process_time() - used
        state = ReviewState.of(config.run)
        decided = {entry.item for entry, _ in state.decisions()}
        rejected = len(decided & harmful)
        by = {name: {one.flag.item for one in state.waiting() if any(why.by == name for why in one.flag.reasons)}
              for name in ("list", "classifier")}
        # an item that waits already is not flagged again, so what the classifier says of it is asked anew
        scores = scored(config, items)
        by["classifier"] = {item for item, score in scores.items() if score >= config.review.threshold} - decided
        rest = harmful - decided
        print(f"{len(decided):>6} ({rejected:>4})   {measured(by['list'], rest)}   {measured(by['classifier'], rest)}   "
              f"{measured(by['list'] | by['classifier'], rest)}   {took:.1f} s")


def time_scans(found: list[tuple[str, set[str]]], count: int) -> None:
    """Print what the first scan takes, another one, and one after a hundredth of the texts has changed."""
    root = Path(tempfile.mkdtemp())
    (root / "terms.toml").write_text(f"harmful = {json.dumps(TERMS['msrd'])}\n")
    config = Config.model_validate({"run": root / "run", "review": {"terms": root / "terms.toml", "labels": LABELS}})
    items = [Item(id=str(number), text=f"{found[number % len(found)][0]} {number}") for number in range(count)]
    changed = [Item(id=item.id, text=f"{item.text}." if n % 100 == 0 else item.text) for n, item in enumerate(items)]
    for name, some in (("first", items), ("again", items), ("a hundredth changed", changed)):
        used = time.process_time()
        done = scan(config, some, now=0)
        print(f"{name:20} {time.process_time() - used:6.2f} s of the processor, {done.judged} texts looked at, "
              f"{done.waiting} wait", flush=True)


def scored(config: Config, items: list[Item]) -> dict[str, float]:
    """The score of each item by the classifier that the last scan taught."""
    import numpy as np

    from tfrec.models.recommender import encode_catalogue
    from tfrec.review.classifier import TextClassifier

    if not (config.run / "review" / "classifier.npz").is_file():
        return {}  # too little is decided
    with np.load(config.run / "review" / "classifier.npz") as file:
        classifier = TextClassifier(dict(zip(file["labels"].tolist(), file["weights"], strict=True)), str(file["identity"]))
    scores = classifier.scores(encode_catalogue(config, [item.text for item in items]))[LABELS[0]]
    return dict(zip((item.id for item in items), scores.tolist(), strict=True))


if __name__ == "__main__":
    main()
