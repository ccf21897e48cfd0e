"""The search space: how it is written, what is refused before anything starts, and that the default one can be tried."""
import pytest

from tfrec.config import Config, load_config
from tfrec.errors import ConfigError
from tfrec.training.sweep.space import DEFAULT, FIXED, Choices, Span, present, search_space, settled


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("training.learning_rate=1e-4..1e-2", Span(1e-4, 1e-2)),
        (" model.dropout = 0 .. 0.5 ", Span(0.0, 0.5)),
        ("model.history=10..50", Span(10, 50, whole=True)),
        ("model.dim=32,64, 128", Choices((32, 64, 128))),
        ("model.temperature=0.05,0.1", Choices((0.05, 0.1))),
    ],
)
def test_ranges_and_lists_are_read(word, values):
    (read,) = search_space(Config(), [word]).values()
    assert read == values


def test_the_configuration_says_the_same_and_words_replace_it(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[sweep.vary]\ntraining.learning_rate = "1e-4..1e-2"\nmodel.dim = [32, 64]\n')
    config = load_config(path, ["sweep.vary.model.dropout=0.1..0.3"])
    assert search_space(config) == {
        "training.learning_rate": Span(1e-4, 1e-2), "model.dim": Choices((32, 64)), "model.dropout": Span(0.1, 0.3)}
    assert search_space(config, ["model.dim=16,32"]) == {"model.dim": Choices((16, 32))}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training.learning_rat=1..2"], "--vary: 'training.learning_rat' is no setting that a sweep can vary (nearest: "
                                         "'training.learning_rate'). These are: model.dim, "),
        (["reward.cap=1..2"], "'reward.cap' is no setting that a sweep can vary"),
        (["text.max_tokens=16,32"], "'text.max_tokens' is no setting that a sweep can vary"),
        (["model=1..2"], "'model' is no setting that a sweep can vary"),
        (["training.seed=1,2"], "--vary: training.seed is not varied: the best seed of many is luck."),
        (["training.validation_share=.1,.2"], "training.validation_share is not varied: scores of other events"),
        (["training.learning_rate=1e-2..1e-4"], "The first number must be the lower one"),
        (["training.learning_rate=0..1"], "--vary: training.learning_rate must be greater than 0, got 0.0 (a number)."),
        (["model.dropout=0..1"], "--vary: model.dropout must be less than 1, got 1.0"),
        (["training.learning_rate=fast..slow"], "expects a range such as 0.1..0.5 or a list such as [1, 2], got 'fast..slow'."),
        (["training.learning_rate=1e-4..nan"], "both must be finite"),
        (["training.learning_rate=1e-4..inf"], "both must be finite"),
        (["model.dim=16.5..32"], "Both must be whole numbers."),
        (["model.dim=small,large"], 'model.dim must be a valid integer, got "small" (a string).'),
        (["model.dim=16,2.5"], "model.dim must be a valid integer, got 2.5"),
        (["model.dim=1,2"], "model.dim must be greater than or equal to 2, got 1"),
        (["model.dim=64"], "model.dim needs at least two different values, got 64. To set a single value, use --set model.dim="),
        (["model.dim=64,64"], "needs at least two different values"),
        (["model.dropout=0.1..0.1"], "needs at least two different values"),
        (["model.dim=32,64", "model.dim=128,256"], "--vary names a setting twice"),
        (["model.dim=32,33"], "model.dim = 33 is no multiple of model.heads = 2."),
        (["model.dim=32..64"], "write model.dim and model.heads as lists"),
        (["model.heads=1,3"], "model.dim = 64 is no multiple of model.heads = 3."),
        (["model.dim"], "--vary expects SETTING=LOW..HIGH or SETTING=VALUE,VALUE"),
        (["=1..2"], "--vary expects"),
        (["model.dim="], "--vary expects"),
        ([""], "--vary expects"),
    ],
)
def test_what_is_wrong_is_refused_with_what_is_right(words, message):
    with pytest.raises(ConfigError) as caught:
        search_space(Config(), words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{model={dimm=[1,2]}}", "sweep.vary: 'model.dimm' is no setting that a sweep can vary (nearest: 'model.dim')"),
        ("{model={dim=[]}}", "sweep.vary: model.dim needs at least two different values, got none."),
        ('{training={learning_rate="quick"}}', "expects a range such as"),
    ],
)
def test_so_is_what_is_wrong_in_the_configuration(value, message):
    config = load_config(None, [f"sweep.vary={value}"])
    with pytest.raises(ConfigError) as caught:
        search_space(config)
    assert message in str(caught.value)


def test_the_default_space_can_be_tried_at_all_its_ends_and_has_the_present_settings():
    for name, values in DEFAULT.items():
        for end in values.ends:
            assert present(settled(Config(), {name: end}), name) == end
        assert values.has(present(Config(), name))
    assert not DEFAULT.keys() & FIXED.keys()
    config = load_config(None, ["model.dim=96", "training.learning_rate=0.1", "model.layers=4"])
    space = search_space(config)
    assert (space["model.dim"], space["training.learning_rate"]) == (Choices((32, 64, 96, 128)), Span(5e-4, 0.1))
    assert all(values.has(present(config, name)) for name, values in space.items())


def test_the_settings_that_are_left_alone_exist():
    for name in FIXED:
        assert present(Config(), name) is not Ellipsis


@pytest.mark.parametrize(("span", "by_logarithm"), [(Span(1e-4, 1e-2), True), (Span(0.1, 0.9), False), (Span(0.0, 0.5), False)])
def test_wide_ranges_are_searched_by_the_logarithm(span, by_logarithm):
    assert span.by_logarithm is by_logarithm


def test_a_drawn_number_is_rounded_and_stays_in_its_range():
    assert Span(1e-4, 1e-2).rounded(0.0012345678) == 0.00123
    assert Span(0.12345, 0.5).rounded(0.12345) == 0.12345
    assert Span(10, 50, whole=True).rounded(17) == 17
