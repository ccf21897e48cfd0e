"""Every item has a title on the page."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.data.records import Item
from tfrec.demo.report.titles import title


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ({"genres": "Crime", "title": "Heat"}, "Heat"),
        ({"title": "", "genres": "Crime, Drama"}, "Crime, Drama"),
        ({"title": " ", "name": "Net"}, "Net"),
        ("a plain text", "a plain text"),
        ("x" * 100, "x" * 79 + "…"),
        ({}, "i7"),
        ("", "i7"),
    ],
)
def test_the_title_else_other_text_else_the_id(text, shown):
    assert title(Item(id="i7", text=text)) == shown


@given(st.one_of(st.text(max_size=5), st.dictionaries(st.sampled_from(["title", "x"]), st.text(max_size=5))))
def test_no_item_is_blank(text):
    assert title(Item(id="i7", text=text)).strip()
