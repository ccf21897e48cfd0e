"""Rules of a business: which items are pinned, and which are not shown, when and for whom."""
