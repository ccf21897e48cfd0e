"""The configuration: defaults, file, overrides; refusals by name; TOML there and back."""
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.config import Config, RewardConfig, load_config
from tfrec.config_file import presets, settings
from tfrec.errors import ConfigError

ROOT = Path(__file__).parent.parent


def write(directory: Path, text: str) -> Path:
    path = directory / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold():
    assert load_config() == Config()
    assert load_config().training.batch_size == 64


def test_a_file_goes_over_the_defaults_and_overrides_over_the_file(tmp_path):
    path = write(tmp_path, 'run = "runs/a"\n[training]\nepochs = 7\nbatch_size = 8\n')
    config = load_config(path, ["training.epochs=9", "training.learning_rate=1e-4"])
    assert config.run == Path("runs/a")
    assert (config.training.epochs, config.training.batch_size, config.training.learning_rate) == (9, 8, 1e-4)
    assert config.training.patience == Config().training.patience


def test_the_last_override_of_a_key_wins():
    assert load_config(None, ["training.seed=1", "training.seed=2"]).training.seed == 2


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("run=runs/new", lambda c: c.run == Path("runs/new")),
        ("text.encoder=org/bert-tiny", lambda c: c.text.encoder == "org/bert-tiny"),
        ('text.encoder="12"', lambda c: c.text.encoder == "12"),
        ("training.jit_compile=false", lambda c: c.training.jit_compile is False),
        ('reward.valued=["purchase", "watch"]', lambda c: c.reward.valued == ("purchase", "watch")),
        ("reward.cap=4", lambda c: c.reward.cap == 4.0),
        ("data.items=a=b.csv", lambda c: c.data.items == Path("a=b.csv")),
    ],
)
def test_override_values_are_toml_and_bare_words_are_strings(word, read):
    assert read(load_config(None, [word]))


def test_an_override_changes_one_entry_of_a_table_or_all_of_it():
    assert load_config(None, ["reward.weights.click=2"]).reward.weights == {**RewardConfig().weights, "click": 2.0}
    assert load_config(None, ["reward.weights={click=2}"]).reward.weights == {"click": 2.0}
    assert load_config(None, ['reward.weights."add to cart"=3']).reward.weights["add to cart"] == 3.0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("training.epoch=3", "--set: there is no setting 'training.epoch'. Did you mean 'training.epochs'?"),
        ("trainin.epochs=3", "--set: there is no setting 'trainin.epochs'. Did you mean 'training.epochs'?"),
        ("epochs=3", "there is no setting 'epochs'. Did you mean 'tuning.epochs' or 'training.epochs' or 'ranker.epochs' or "
                     "'retrain.epochs'?"),
        ("ranker={heads={click=1}, after={buy='click'}}",
         "has 'buy' after 'click', but 'buy' is not among the heads: these are click"),
        ("ranker={heads={a=1, b=1}, after={a='b', b='a'}}", "after itself: the first action must not follow another one"),
        ("ranker={heads={a=1}, after={a='a'}}", "has 'a' after itself"),
        ("ranker={heads={''=1}}", "has a head without a name"),
        ("retrain.forgetting=0.9", "--set: there is no setting 'retrain.forgetting'. It is called 'retrain.bandit_decay' now."),
        ("serving.zzz=1", "Known are serving.model_name, serving.max_k, "),
        ("zzz=1", "Known are run, data, reward, text, tuning, model, features, training, sweep, search, ranker, retrain, "
                  "serving, gateway, experiment, monitors, review, ingest."),
        ("training.epochs=many", '--set: training.epochs must be a valid integer, got "many" (a string).'),
        ('training.epochs="3"', 'training.epochs must be a valid integer, got "3" (a string).'),
        ("training.epochs=0", "training.epochs must be greater than or equal to 1, got 0 (an integer)."),
        ("training.epochs=2.5", "training.epochs must be a valid integer, got 2.5 (a number)."),
        ("training.jit_compile=yes", 'training.jit_compile must be a valid boolean, got "yes" (a string).'),
        ("training.learning_rate=inf", "training.learning_rate must be a finite number, got Infinity"),
        ("training.epochs.more=1", 'training.epochs must be a valid integer, got {"more": 1} (a table).'),
        ("training=5", "training must be an object, got 5 (an integer)."),
        ("training.epochs", "--set expects section.key=value, such as training.batch_size=64, got 'training.epochs'."),
        ("=3", "--set expects section.key=value"),
        ("a b=3", "--set expects section.key=value"),
        ("a=1\nb=3", "there is no setting 'a'"),
    ],
)
def test_a_wrong_override_is_named_with_what_came_and_what_is_right(word, message):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [word])
    assert message in str(caught.value)


def test_a_wrong_file_is_named_and_every_wrong_setting_in_it(tmp_path):
    path = write(tmp_path, '[training]\nepochs = "x"\nbatchsize = 3\n')
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).splitlines() == [
        f'{path}: training.epochs must be a valid integer, got "x" (a string).',
        f"{path}: there is no setting 'training.batchsize'. Did you mean 'training.batch_size'?",
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot read the configuration: No such file"):
        load_config(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"c\.toml: expected TOML, got .*line 1"):
        load_config(write(tmp_path, "run = runs/a"))
    (tmp_path / "c.toml").write_bytes(b"run = '\xff'")
    with pytest.raises(ConfigError, match=r"c\.toml: not UTF-8 from byte 7 on"):
        load_config(tmp_path / "c.toml")


def test_the_digest_is_of_the_settings_not_of_how_they_were_written(tmp_path):
    by_file = load_config(write(tmp_path, "[reward]\ncap = 4\n[reward.weights]\na = 1\nb = 2\n"))
    by_word = load_config(None, ["reward.weights={b=2.0, a=1.0}", "reward.cap=4.0"])
    assert by_file.digest() == by_word.digest() != Config().digest()
    assert len(Config().digest()) == 64


def test_a_preset_lies_beneath_the_file_and_the_file_beneath_the_words(tmp_path):
    news = load_config(None, ["reward.preset=news"]).reward
    assert (news.weights["read"], news.completed, news.conversions) == (2.0, {"read": 60.0}, ("subscribe",))
    path = write(tmp_path, '[reward]\npreset = "news"\ncap = 3\n[reward.completed]\nread = 90\n')
    mixed = load_config(path, ["reward.weights.click=7"])
    assert mixed.reward.weights == {**news.weights, "click": 7.0}
    assert (mixed.reward.cap, mixed.reward.completed, mixed.reward.half_life_hours) == (3.0, {"read": 90.0}, news.half_life_hours)
    other = load_config(path, ["reward.weights.click=7", "reward.preset=video"]).reward
    assert (other.preset, other.weights["watch"], other.weights["click"], other.cap) == ("video", 3.0, 7.0, 3.0)
    assert load_config(write(tmp_path, mixed.to_toml())) == mixed


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_rule_that_says_why(name):
    reward = load_config(None, [f"reward.preset={name}"]).reward
    assert (reward.preset, set(reward.valued) | {*reward.completed, *reward.rated} <= {*reward.weights}) == (name, True)
    assert set(reward.conversions) <= {*reward.weights}
    assert (ROOT / f"tfrec/data/labels/presets/{name}.toml").read_text().startswith("# ")


def test_dates_of_changes_are_toml_dates(tmp_path):
    days = "since = 2026-11-01\nweights = {a = 2}", "since = 2026-11-02T01:00:00+01:00\nweights = {}"
    first, second = load_config(write(tmp_path, "".join(f"[[reward.changes]]\n{day}\n" for day in days))).reward.changes
    assert (first.since, second.since) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    by_word = load_config(None, ["reward.changes=[{since = 2026-11-01, weights = {a = 2}}]"])
    assert by_word.reward.changes == (first,)
    assert load_config(write(tmp_path, by_word.to_toml())) == by_word


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("reward.preset=radio", 'reward.preset is none of the presets: ecommerce, news, video, got "radio".'),
        ("reward.preset=E-Commerce", "reward.preset is none of the presets: ecommerce, news, video (nearest: 'ecommerce'), got "),
        ("reward.weights.click=nan", "reward.weights.click must be a finite number, got NaN"),
        ("reward.weights.click=inf", "reward.weights.click must be "),
        ("reward.weights.click=1e10", "reward.weights.click must be less than or equal to 1000000000"),
        ("reward.half_life_hours.click=0", "reward.half_life_hours.click must be greater than 0, got 0"),
        ("reward.completed.read=-1", "reward.completed.read must be greater than 0, got -1"),
        ("reward.rated.stars={scale=0}", "reward.rated.stars.scale must be greater than or equal to 0.000001, got 0"),
        ("reward.rated.stars={middle=3}", "there is no setting 'reward.rated.stars.middle'"),
        ("reward.cap=0", "reward.cap must be greater than 0"),
        ('reward={valued=["a"], rated={a={}}}', "reward 'a' is in valued and in rated: a value is read in one way."),
        ("reward.changes=[{since=2026-01-02, weights={}}, {since=2026-01-01, weights={}}]",
         "reward.changes must be in order of time, but 2026-01-01 00:00:00+00:00 comes after 2026-01-02 00:00:00+00:00."),
        ("reward.changes=[{since=3, weights={}}]", "reward.changes.0.since must be a valid datetime, got 3"),
    ],
)
def test_a_wrong_rule_of_rewards_is_named(word, message):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [word])
    assert message in str(caught.value)


names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8)


@given(
    run=names.filter(lambda name: "\0" not in name),
    encoder=names,
    weights=st.dictionaries(names, st.floats(-1e9, 1e9), max_size=4),
    valued=st.lists(names, max_size=3),
    rate=st.floats(1e-300, 1e300),
    dates=st.lists(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), unique=True, max_size=2),
    rated=st.dictionaries(names, st.floats(-5, 5), max_size=2),
    items=st.none() | st.just("items.csv"),
)
def test_toml_there_and_back_is_the_same_configuration(
    tmp_path_factory, run, encoder, weights, valued, rate, dates, rated, items
):
    config = Config.model_validate(
        {
            "run": run,
            "data": {"items": items},
            "text": {"encoder": encoder},
            "reward": {
                "weights": weights,
                "valued": valued,
                "rated": {name: {"neutral": value} for name, value in rated.items() if name not in valued},
                "changes": [{"since": moment, "weights": weights} for moment in sorted(dates)],
            },
            "training": {"learning_rate": rate},
        }
    )
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    path.write_bytes(config.to_toml().encode())  # bytes: text mode would turn line ends of other systems into these
    again = load_config(path)
    assert again == config
    assert again.digest() == config.digest()


def test_every_setting_can_be_named():
    listed = list(settings(Config))
    assert listed[0] == "run"
    assert "training.batch_size" in listed
    assert len(listed) == len(set(listed))
