"""The configuration: defaults, file, overrides; refusals by name; TOML there and back."""
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.config import Config, RewardConfig, load_config
from tfrec.config_file import settings
from tfrec.errors import ConfigError


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
        ("epochs=3", "there is no setting 'epochs'. Did you mean 'tuning.epochs' or 'training.epochs' or 'retrain.epochs'?"),
        ("serving.zzz=1", "Known are serving.model_name, serving.max_k, "),
        ("zzz=1", "Known are run, data, reward, text, tuning, model, training, retrain, serving, gateway."),
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


names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8)


@given(
    run=names.filter(lambda name: "\0" not in name),
    encoder=names,
    weights=st.dictionaries(names, st.floats(-1e9, 1e9), max_size=4),
    valued=st.lists(names, max_size=3),
    rate=st.floats(1e-300, 1e300),
    items=st.none() | st.just("items.csv"),
)
def test_toml_there_and_back_is_the_same_configuration(tmp_path_factory, run, encoder, weights, valued, rate, items):
    config = Config.model_validate(
        {
            "run": run,
            "data": {"items": items},
            "text": {"encoder": encoder},
            "reward": {"weights": weights, "valued": valued},
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
