"""The name for people of an item."""
from tfrec.data.records import Item

_NAMED = ("title", "name", "headline")
_LONGEST = 80  # characters


def title(item: Item) -> str:
    """The title or name of an item, else its first other text, else its id: never blank."""
    texts = item.text if isinstance(item.text, dict) else {"text": item.text}
    named = [texts[field] for field in _NAMED if field in texts]
    words = next((text.strip() for text in [*named, *texts.values()] if text.strip()), "")
    if not words:
        return item.id
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1].rstrip() + "…"
