# SPDX-License-Identifier: Apache-2.0
"""Tables of destinations: defaults, what wins, every error with its line, and every block of the documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from enricher.config import load
from enricher.config.options import Clash
from enricher.config.sinks import MOST
from enricher.errors import ConfigInvalid, EnricherError
from enricher.runtime import sinkconfig
from enricher.runtime.sinkconfig import SinkSetting
from enricher.runtime.sinktypes import TYPES
from tests.unit.sample_events import HOST

DOCS = Path(__file__).parents[2] / "docs"
RELP = '[sinks.siem]\ntype = "relp"\naddress = "logs.example.org:2514"\n'


def said(directory: Path, text: str) -> list[str]:
    """What is wrong with a file of this text, `F` standing for the file."""
    (directory / "F").write_text(text)
    settings, problems = load.read(str(directory / "F"), {})
    problems += sinkconfig.read(settings)[1]
    return [str(problem).replace(f"{directory}/", "") for problem in problems]


def hints(directory: Path, text: str) -> list[str]:
    (directory / "F").write_text(text)
    settings, problems = load.read(str(directory / "F"), {})
    return [problem.hint for problem in (*problems, *sinkconfig.read(settings)[1])]


def read(directory: Path, text: str) -> list[SinkSetting]:
    (directory / "F").write_text(text)
    return sinkconfig.load(load.load(str(directory / "F"), {}))


def test_defaults_are_those_of_the_rows_and_of_the_type(tmp_path: Path) -> None:
    (found,) = read(tmp_path, RELP)
    assert (found.name, found.place) == ("siem", f"{tmp_path}/F:1")
    common = found.common
    assert (common.schema, common.queue, common.policy) == ("native", "spool", "drop_oldest")
    assert (common.max_size, common.max_age) == (256 << 20, 7 * 86_400.0)
    assert (found.options.window, found.options.timeout) == (128, 10.0)


def test_each_type_has_a_default_schema_that_there_is() -> None:
    defaults = {"elasticsearch": "ecs", "otlp": "otlp"}
    assert {name: kind.schemas[0] for name, kind in TYPES.items()} == {
        name: defaults.get(name, "native") for name in TYPES
    }


def test_values_of_every_kind(tmp_path: Path) -> None:
    (found,) = read(
        tmp_path,
        RELP + 'max_size = "8M"\nmax_age = "1h"\ntimeout = 2\nfields = ["subject", "keys"]\n'
        'redact = ["records.EXECVE.argv"]\nfilter = "where == container"\nschema = "ecs"\nskip_self = true\n',
    )
    assert (found.common.max_size, found.common.max_age, found.options.timeout) == (8 << 20, 3600.0, 2.0)
    assert found.common.fields == ("subject", "keys")
    assert found.common.skip_self


def test_a_queue_in_memory_is_small_unless_said_otherwise(tmp_path: Path) -> None:
    (found,) = read(tmp_path, RELP + 'queue = "memory"\n')
    assert found.common.max_size == 16 << 20
    (found,) = read(tmp_path, RELP + 'queue = "memory"\nmax_size = "1M"\n')
    assert found.common.max_size == 1 << 20


def test_one_that_is_not_enabled_is_not_there_but_checked(tmp_path: Path) -> None:
    assert read(tmp_path, RELP + "enabled = false\n") == []
    assert said(tmp_path, RELP + 'enabled = false\nfilter = "="\n')


def test_files_are_put_together_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "10.toml").write_text('[sinks.siem]\naddress = "b:1"\nwindow = 0\n')
    (tmp_path / "F").write_text(RELP)
    settings = load.load(str(tmp_path / "F"), {})
    assert settings.sinks["siem"].given["address"].value == "b:1"
    assert [str(each) for each in sinkconfig.read(settings)[1]] == [
        f"{tmp_path}/config.d/10.toml:3: window: 0 is not a whole number of 1 or more"
    ]


def test_two_readings_of_the_same_are_equal_wherever_they_stand(tmp_path: Path) -> None:
    assert read(tmp_path, RELP) == read(tmp_path, "\n\n" + RELP)
    assert read(tmp_path, RELP) != read(tmp_path, RELP + "window = 1\n")


ERRORS = [
    ("[sinks.a]\nurl = 1\n", "F:1: [sinks.a] has no type"),
    ('[sinks.a]\ntype = "relpp"\n', "F:2: type: there is no type 'relpp'"),
    ("[sinks.a]\n\ntype = 3\n", "F:3: type: there is no type 3"),
    ('[sinks.a]\ntype = "relp"\n', "F:1: [sinks.a] has no address"),
    (RELP + 'adress = "x"\n', "F:4: there is no key adress in [sinks.siem]"),
    (RELP + "window = 0\n", "F:4: window: 0 is not a whole number of 1 or more"),
    (
        '[sinks.a]\ntype = "relp"\naddress = "nowhere"\n',
        'F:3: address: "nowhere" is not an address of a receiver: HOST:PORT, or [ADDRESS]:PORT for IPv6',
    ),
    (
        RELP + 'tls_ca_file = "ca.pem"\n',
        'F:4: tls_ca_file: "ca.pem" is not an absolute path, or empty for none',
    ),
    (
        RELP + "facility = 24\n",
        "F:4: facility: 24 is not a whole number from 0 to 23",
    ),
    (
        RELP + 'filter = "where == container and contianer.name == web"\n',
        "F:4: filter: column 24: no such member: contianer.name",
    ),
    (
        RELP + "filter = '''\nwhere == container\nand x == 1'''\n",
        "F:4: filter: line 2, column 5: no such member: x",
    ),
    (RELP + 'fields = ["subjekt"]\n', "F:4: fields: no such member: subjekt, in subjekt"),
    (RELP + 'keys = 1\nredact = ["subject.nothing"]\n', "F:4: there is no key keys in [sinks.siem]"),
    (RELP + 'redact = ["subject.nothing"]\n', "F:4: redact: no such member: nothing, in subject.nothing"),
    (RELP + 'redact = ["uid"]\nschema = "ecs"\n', None),
    (RELP + 'schema = "esc"\n', "F:4: schema: there is no schema esc"),
    (RELP + 'schema = "msgpack"\n', "F:4: schema: relp cannot carry msgpack"),
    (
        RELP + 'schema = "text"\nredact = ["subject.exe"]\n',
        "F:5: redact: audit text passes on the kernel's own lines, of which nothing is left out or hidden",
    ),
    (
        RELP + 'fields = ["subject"]\nschema = "text"\n',
        "F:4: fields: audit text passes on the kernel's own lines, of which nothing is left out or hidden",
    ),
    (RELP + 'queue = "memory"\nmax_age = "1d"\n', "F:5: max_age: a queue in memory has no age"),
    (RELP + 'queue = "disk"\n', 'F:4: queue: "disk" is not one of spool, memory'),
    (RELP + 'policy = "block"\n', 'F:4: policy: "block" is not one of drop_oldest, drop_newest'),
    ('[sinks."a/b"]\ntype = "relp"\n', "F:1: a/b cannot be the name of a destination"),
    ('[sinks]\nurl = "x"\n', "F:2: url is no destination"),
    ("sinks = 3\n", "F:1: sinks is no section: write [sinks.NAME]"),
    (
        '[sinks.e]\ntype = "elasticsearch"\nurl = "https://joe:s3cret@h"\n',
        "F:3: url: it holds a credential: that belongs into a file, named in credential_file",
    ),
    (
        '[sinks.e]\ntype = "elasticsearch"\nurl = "ftp://h"\n',
        "F:3: url: it is not http:// or https://, a host, a port and a path alone",
    ),
    (
        '[sinks.e]\ntype = "elasticsearch"\nurl = "https://h"\nindex = "../_all"\n',
        "F:4: index: \"../_all\" is not a name of lower case letters, digits, '.', '_' and '-' alone",
    ),
    (
        '[sinks.a]\ntype = "file"\npath = "/x/y"\n[sinks.b]\ntype = "file"\npath = "/x/y"\n',
        "F:4: [sinks.b] has the path of [sinks.a]: /x/y",
    ),
    (
        '[output]\npath = "/x/y"\n[sinks.b]\ntype = "file"\npath = "/x/y"\n',
        "F:3: [sinks.b] has the path of output.path: /x/y",
    ),
    (
        RELP + "".join(f"[sinks.a{n}]\nenabled = true\n" for n in range(MOST)),
        f"F:66: more than {MOST} destinations",
    ),
]


@pytest.mark.parametrize("text, error", ERRORS)
def test_every_error_has_its_line(tmp_path: Path, text: str, error: str | None) -> None:
    found = said(tmp_path, text)
    assert found[0] == error if error else found, found


def test_no_secret_of_a_url_is_told(tmp_path: Path) -> None:
    assert "s3cret" not in "".join(said(tmp_path, '[sinks.e]\ntype = "otlp"\nurl = "https://joe:s3cret@h"\n'))


@pytest.mark.parametrize(
    "text, hint",
    [
        (RELP + 'adress = "x"\n', "did you mean address?"),
        ('[sinks.a]\ntype = "relpp"\n', "did you mean relp?"),
        (RELP + 'schema = "esc"\n', "did you mean ecs?"),
        (
            '[sinks.e]\ntype = "otlp"\nurl = "https://h"\ntoken = "x"\n',
            "a secret stands in a file of its own: credential_file names it",
        ),
        ('[sink.a]\ntype = "relp"\n', "did you mean sinks?"),
    ],
)
def test_hints(tmp_path: Path, text: str, hint: str) -> None:
    assert hints(tmp_path, text) == [hint]


TCP = '[sinks.a]\ntype = "syslog"\naddress = "h:1"\ntransport = "tcp"\n'
BULK = '[sinks.a]\ntype = "elasticsearch"\nurl = "https://h"\n'


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        (
            RELP + "tls_verify = false\n",
            "F:1: tls: there are options of TLS without it",
            "tls = true, or leave the tls_ options out",
        ),
        (
            TCP + 'tls_server_name = "h"\n',
            "F:4: transport: it is tcp, and there are options of TLS",
            'transport = "tls", or leave the tls_ options out',
        ),
        (
            TCP.replace("tcp", "udp") + "max_length = 65488\n",
            "F:5: max_length: 65488 is more than a datagram holds",
            "at most 65487",
        ),
        (
            RELP + 'tls = true\ntls_key_file = "/k"\n',
            "F:5: tls_key_file: there is no tls_cert_file",
            "name the certificate that the key belongs to",
        ),
        (
            BULK + 'key_file = "/k"\n',
            "F:4: key_file: there is no cert_file",
            "name the certificate that the key belongs to",
        ),
        (RELP + 'sd_id = "audit"\n', 'F:4: sd_id: "audit" is not NAME@NUMBER, of at most 32 characters', ""),
        (
            BULK.replace("elasticsearch", "otlp") + 'header = "x key"\n',
            'F:4: header: "x key" is not a header\'s name that a credential can have',
            "",
        ),
        (
            BULK.replace("elasticsearch", "otlp") + 'header = "Content-Type"\n',
            'F:4: header: "Content-Type" is not a header\'s name that a credential can have',
            "",
        ),
    ],
)
def test_what_would_keep_the_service_from_starting_is_told(
    tmp_path: Path, text: str, error: str, hint: str
) -> None:
    """Of one option, or of several together; the protocol itself would refuse it only at the start."""
    assert said(tmp_path, text) == [error]
    if hint:
        assert hints(tmp_path, text) == [hint]


@pytest.mark.parametrize("type_", [name for name, kind in TYPES.items() if kind.network])
def test_a_protocol_refuses_what_its_options_call_wrong(type_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So nothing that does not come from a file gets past it either."""
    kind = TYPES[type_]
    monkeypatch.setattr(kind.options, "clashes", lambda _: iter([Clash("timeout", "it is odd", "another")]))
    given = (
        {"address": "127.0.0.1:1"} if "address" in kind.options.__dataclass_fields__ else {"url": "http://h"}
    )
    with pytest.raises(EnricherError, match="timeout: it is odd"):
        kind.make(kind.options(**given), HOST)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(tmp_path, RELP + 'window = 0\nfilter = "("\n[sinks.b]\ntype = "no"\n')
    assert len(caught.value.message.splitlines()) == 3


def test_a_variable_reaches_into_no_destination() -> None:
    _, problems = load.read(None, {"AUDIT_ENRICHER_SINKS_SIEM_ADDRESS": "x"})
    assert [(each.place, each.hint) for each in problems if each.place.startswith("AUDIT")] == [
        ("AUDIT_ENRICHER_SINKS_SIEM_ADDRESS", "destinations are set in files alone")
    ]


BLOCKS = [
    (path.name, block)
    for path in sorted((*(DOCS / "sinks").glob("*.md"), DOCS / "delivery.md"))
    for block in re.findall(r"^```toml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("page, block", BLOCKS)
def test_every_block_of_the_documents_is_right(tmp_path: Path, page: str, block: str) -> None:
    assert said(tmp_path, block) == [], page
    assert read(tmp_path, block), page


def test_every_page_of_a_type_has_a_block() -> None:
    pages = {path.name for path in (DOCS / "sinks").glob("*.md")}
    assert pages <= {page for page, _ in BLOCKS}
    assert {name.replace("_", "-") + ".md" for name in TYPES} == pages


WORDS = sorted({"type", *TYPES, *(row.key for kind in TYPES.values() for row in kind.rows())})
VALUES = [
    '"relp"',
    '"otlp"',
    '"file"',
    '"a:1"',
    '"/x"',
    '"https://h"',
    "0",
    "-1",
    "1e400",
    "nan",
    "true",
    "{}",
]
keys = st.builds("{} = {}\n".format, st.sampled_from(WORDS), st.sampled_from(VALUES) | st.text(max_size=4))
hostile = st.builds(
    "[sinks.{}]\ntype = {}\n{}".format,
    st.sampled_from(["a", "b.c", '"\\u0000"', "''"]),
    st.sampled_from(VALUES + [f'"{name}"' for name in TYPES]),
    st.lists(keys, max_size=6, unique_by=lambda line: line.partition(" ")[0]).map("".join),
)


@given(text=st.lists(hostile, max_size=3).map("".join))
@hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_tables_hold_only_problems_come_of_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "F").write_text(text)
    settings, problems = load.read(str(tmp_path / "F"), {})
    for problem in (*problems, *sinkconfig.read(settings)[1]):
        name, _, line = problem.place.removeprefix(str(tmp_path)).partition(":")
        assert name == "/F"
        assert not line or 1 <= int(line) <= text.count("\n") + 1
        assert problem.message
