"""Asks for many entries at once where only those of one kind can be asked together."""
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")
T = TypeVar("T")


def answer_by_group(keys: Sequence[K], asked: Sequence[S], answer: Callable[[K, Sequence[S]], Sequence[T]]) -> list[T]:
    """The answers in the order of `asked`, by one call of `answer` for all entries whose key, beside them, is the same."""
    answers: dict[int, T] = {}
    for key in dict.fromkeys(keys):
        mine = [index for index, own in enumerate(keys) if own == key]
        answers |= zip(mine, answer(key, [asked[index] for index in mine]), strict=True)
    return [answers[index] for index in range(len(asked))]
