import math

from tfrec.data.behaviour.movielens import film_item, load_movielens


def test_the_data_set():
    catalogue, inter = load_movielens()
    assert (len(catalogue), len(inter), len(inter.users)) == (9066, 100_004, 671)
    assert inter.items == tuple(catalogue.ids.tolist())
    heat = catalogue.items[catalogue.index["6"]]
    assert heat.text == {"title": "Heat (1995)", "genres": "Action, Crime, Thriller"}
    assert heat.tags == ("Action", "Crime", "Thriller")
    assert heat.numeric == {"year": 1995.0}
    assert inter.actions == ("rating",)
    assert set(inter.weight.tolist()) == {1.0}


def test_missing_title_year_and_genres():
    film = film_item(5, math.nan, math.nan, "(no genres listed)")
    assert (film.id, film.text, film.tags, film.numeric) == ("5", {}, (), {})
    assert film_item(6, "Untold", math.nan, "Drama").text == {"title": "Untold", "genres": "Drama"}
