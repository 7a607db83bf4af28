# SPDX-License-Identifier: Apache-2.0
"""One direction through the stages; and the check itself finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.lint.direction import STAGES, violations
from tests.lint.tree import ROOT, files


def test_no_stage_imports_to_its_right() -> None:
    found = []
    for path in files(".py", under="enricher"):
        is_package = path.name == "__init__.py"
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        module = ".".join(parts[:-1] if is_package else parts)
        found += violations(module, path.read_text(), is_package=is_package)
    assert not found, "\n".join(found)


def test_every_stage_exists() -> None:
    assert [stage for stage in STAGES if not (ROOT / "enricher" / stage / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("enricher.sources.audit.parser", "import enricher.correlate.reassembly"),
        ("enricher.sources.audit.parser", "from enricher.sinks import file"),
        ("enricher.sources.audit.parser", "from enricher import sinks"),
        ("enricher.correlate.join", "from ..enrich import namespaces"),
        ("enricher.correlate.join", "from .. import route"),
        ("enricher.enrich.users", "def f():\n    from enricher.runtime.pipeline import Pipeline"),
        ("enricher.enrich.users", "if TYPE_CHECKING:\n    from enricher.route.views import View"),
        ("enricher.sinks.file", "importlib.import_module('enricher.cli.main')"),
        ("enricher.runtime.pipeline", "import enricher.cli.main"),
        ("enricher.model", "from enricher.sources.audit import parser"),
        ("enricher.codec", "from enricher import config"),
        ("enricher.config.table", "from enricher.sinks.file import FileSink"),
        ("enricher.newstage", "import os"),
        ("enricher.newstage.inner", "import os"),
        ("enricher.sources.audit.parser", "import enricher.newstage"),
    ],
)
def test_a_violation_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


def test_a_relative_import_in_a_package_counts_from_the_package() -> None:
    assert violations("enricher.sources", "from ..sinks import file", is_package=True)
    assert not violations("enricher.sources", "from .audit import parser", is_package=True)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("enricher.sources.audit.parser", "import os, enricher.model, enricher.errors"),
        ("enricher.sources.audit.parser", "from enricher import __version__, codec, config"),
        ("enricher.sources.audit.parser", "from .wire import Header"),
        ("enricher.sinks.file", "from enricher.route.views import View"),
        ("enricher.codec", "from enricher.errors import UsageError"),
        ("enricher.config.table", "from enricher.errors import UsageError"),
        ("enricher.runtime.pipeline", "import enricher.sinks.file, enricher.sources.audit.parser"),
        ("enricher.cli.main", "from enricher.runtime import pipeline"),
        ("enricher.__main__", "from enricher.cli.main import main"),
        ("tests.unit.test_parser", "import enricher.sinks.file"),
    ],
)
def test_what_the_rule_allows(module: str, source: str) -> None:
    assert violations(module, source) == []
