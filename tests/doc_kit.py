"""The Python snippets of README.md and docs/*.md, and the output that examples say they print.

How a fenced block is treated:

* ``python``: it compiles (an await outside of a function is fine there).
* ``python`` with a test function in it: it is a test file, and runs under pytest. A block before it in the same
  document whose first line is ``# conftest.py`` lies beside it.
* ``python run``: it is a program, and runs.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^```python(?P<word>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_CONFTEST = "# conftest.py"
#: What differs from run to run: node ids, ports, measured times, counts of packets.
_VARIABLE = (
    (r"\b[0-9a-f]{10}\b", "<id>"),
    (r"(?<=:)\d{4,5}\b", "<port>"),
    (r"\d+(\.\d+)?(?= ?(ms|s|datagrams|lost)\b)", "<number>"),
    (r"[ \t]+", " "),
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One block: where it stands, its code, and the conftest.py that goes with it."""

    document: Path
    line: int
    word: str
    code: str
    conftest: str = ""

    def __str__(self) -> str:
        return f"{name_of(self.document)}-{self.line}"

    @property
    def is_conftest(self) -> bool:
        """Whether it is a conftest.py of the blocks that follow."""
        return self.code.startswith(_CONFTEST)

    @property
    def is_test(self) -> bool:
        """Whether it has a test function."""
        return not self.is_conftest and re.search(r"^(async )?def test_", self.code, re.MULTILINE) is not None

    @property
    def is_program(self) -> bool:
        """Whether it is a program that runs by itself."""
        return self.word == "run"

    @property
    def needs_lab(self) -> bool:
        """Whether namespaces are needed."""
        return re.search(r"\blab\b|\blab_factory\b|netns_fixtures", self.conftest + self.code) is not None

    def compile(self) -> None:
        """Raises SyntaxError with the document and the line."""
        lines = "\n" * (self.line - 1)
        compile(lines + self.code, str(self.document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def documents() -> list[Path]:
    """Everything that users read."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]


def name_of(document: Path) -> str:
    """A document's name for people: its path in the repository."""
    return str(document.relative_to(ROOT))


def snippets() -> list[Snippet]:
    """All Python blocks of all documents, in order."""
    return [snippet for document in documents() for snippet in _snippets_of(document)]


def _snippets_of(document: Path) -> list[Snippet]:
    text = document.read_text()
    found: list[Snippet] = []
    conftest = ""
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        snippet = Snippet(document, line, match["word"].strip(), match["code"], conftest)
        conftest = snippet.code if snippet.is_conftest else conftest
        found.append(snippet)
    return found


def promised_output(example: Path) -> list[str]:
    """The lines that an example's docstring shows below its ``$`` line."""
    docstring = ast.get_docstring(ast.parse(example.read_text())) or ""
    _before, mark, session = docstring.partition(f"\n$ {command_of(example)}\n")
    assert mark, f"the docstring of {example.name} has no line '$ {command_of(example)}'"
    return session.strip().splitlines()


def command_of(example: Path) -> str:
    """The command that an example's docstring shows."""
    program = "pytest" if example.name.startswith("test_") else "python"
    return f"{program} examples/{example.name}"


def without_variables(lines: list[str]) -> list[str]:
    """Lines in which everything that may differ between runs is replaced by its name."""
    return [_normal(line).strip() for line in lines]


def _normal(line: str) -> str:
    for pattern, name in _VARIABLE:
        line = re.sub(pattern, name, line)
    return line


def lines_of_code(example: Path) -> int:
    """Lines without blank ones and the module's docstring."""
    source = example.read_text()
    docstring = ast.parse(source).body[0]
    rest = source.splitlines()[docstring.end_lineno or 0 :]
    return sum(1 for line in rest if line.strip())
