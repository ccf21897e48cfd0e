"""Finds items by the words of their texts: terms, postings with BM25 impacts, and the match of a query, in stock ops."""
