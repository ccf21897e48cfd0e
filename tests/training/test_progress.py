"""A bar never writes to standard output, and to nothing at all where nobody watches."""
from tfrec.training.progress import bar


def test_silent_where_nobody_watches(capsys):
    with bar("training", total=3) as advance:
        advance(1)
        advance(2)
    assert capsys.readouterr() == ("", "")
