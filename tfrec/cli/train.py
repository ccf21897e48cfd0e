"""`tfrec train`: a first model, from a catalogue and past behaviour."""
import time
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, Events, Items, SkipBadRows, configured, load_tensorflow
from tfrec.config import Config


@configured
def train(
    config: Config,
    items: Items = None,
    interactions: Events = None,
    skip_bad_rows: SkipBadRows = False,
    restart: Annotated[bool, typer.Option("--restart", help="Do not continue an interrupted training.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time goes, and write a TensorBoard profile.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on a catalogue and past behaviour, and save it as the run's checkpoint.

    An interrupted training continues where it stopped. The second stage (ranker.heads), if there is one, learns what the log has.
    """
    terminal.writable(config.run)
    from tfrec.data.behaviour.dataset import read_dataset
    from tfrec.data.people.erasures import Erasures
    from tfrec.data.settled.examples import SettledExamples

    erasures = Erasures(config.log_uri).newest()
    catalogue, inter = read_dataset(config, items, interactions, skip_bad_rows=skip_bad_rows, command="train")
    load_tensorflow()
    from tfrec.training import checkpoint
    from tfrec.training.profile import Profile
    from tfrec.training.slates.logged_slates import teach_logged_slates
    from tfrec.training.train import checkpoint_dir, train

    watched = Profile(config.run / "tensorboard" / "profile" if profile else None)
    trained = train(config, catalogue, inter, resume=not restart, profile=watched)
    with trained.strategy.scope():
        taught = teach_logged_slates(trained.recommender)
    last = SettledExamples(config.examples_uri).last() if taught else None
    learnt = 0 if last is None else last.number
    directory = checkpoint.save(checkpoint_dir(config), trained.recommender, optimizer=trained.optimizer,
                                meta={"trained_at": int(time.time()), "erasures": erasures, "learnt": learnt})
    went = watched.report() if profile else {}
    encoder = trained.recommender.config.text.encoder
    terminal.show(
        {"checkpoint": directory, "events": len(inter), "items": len(catalogue), "epochs": trained.epochs,
         "train_seconds": round(trained.seconds, 1), "popularity_weight": float(trained.recommender.model.beta.numpy()),
         **({"encoder": encoder} if encoder != config.text.encoder else {}),
         **({"input": went["input"], "tensorboard": watched.log_dir, "profile": went["parts"]} if profile else {})},
        as_json=as_json,
    )
