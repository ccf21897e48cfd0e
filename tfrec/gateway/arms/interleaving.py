"""Team-draft interleaving (Radlinski et al. 2008): one answer of two rankings, in which each item is credited to one of them.

The ranking that has fewer items in the answer so far is next, and a coin decides when both have as many; it adds its best item
that is not there yet. A user who prefers one ranking gives its items more reward, in the same answer and with the same history,
so far fewer users are needed than when each sees one ranking only.
"""
from collections.abc import Sequence
from random import Random

FIRST, SECOND = "0", "1"


def team_draft(first: Sequence[str], second: Sequence[str], k: int, *, seed: int) -> tuple[list[int], str]:
    """Draw an answer of at most `k` items.

    Args:
        first: a ranking, the best item first.
        second: the other one.
        k: the number of items.
        seed: of the coin.

    Returns:
        The rank of each item in its team's ranking, and the teams, `0` or `1`, in the order of the answer.
    """
    coin, taken = Random(seed), set[str]()
    rankings, at, sizes = (first, second), [0, 0], [0, 0]
    ranks: list[int] = []
    teams = ""
    while len(ranks) < k:
        for team in (0, 1):
            while at[team] < len(rankings[team]) and rankings[team][at[team]] in taken:
                at[team] += 1
        able = [team for team in (0, 1) if at[team] < len(rankings[team])]
        if not able:
            break
        fewest = min(sizes)
        due = [team for team in able if sizes[team] == fewest] or able
        team = due[0] if len(due) == 1 else coin.getrandbits(1)
        ranks.append(at[team])
        teams += str(team)
        taken.add(rankings[team][at[team]])
        sizes[team] += 1
    return ranks, teams
