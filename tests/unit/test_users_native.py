# SPDX-License-Identifier: Apache-2.0
"""Who a subject is inside of his user namespace, in whole events."""

from __future__ import annotations

import pytest

from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.enrich.users import USER
from enricher.facts import Extent, Refused, UserMap
from enricher.model import Context, Event
from enricher.route.views import audit_text
from enricher.route.views.audit_text import AuditText
from enricher.route.views.flat import flat
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, HOST_INUMS, SYSCALL, USER_LOGIN, context, event
from tests.unit.sample_facts import TIME, batch, freed, made

INUM = 4026532400
ROOT = (Extent(3, 0, 1), Extent(9, 100000, 10))


def known() -> Surroundings:
    around = Surroundings(HOST)
    told = UserMap(TIME - 1, INUM, 1, 1000, 1001, (HOST_INUMS[USER],), (0, 0), ROOT, ROOT, whole=True)
    around.learn(batch(made("user", INUM, 1_300), told))
    return around


def rootless(inum: int = INUM) -> Context:
    return context(inums=(*BOX_INUMS[:USER], inum, *BOX_INUMS[USER + 1 :]))


def test_an_event_has_it_beside_the_numbers_of_the_record() -> None:
    subject = NativeBuilder(HOST, around=known()).build(event(*EXEC, context=rootless()))["subject"]
    assert (subject["uid"], subject["inside"]["uid"], subject["inside"]["fsgid"]) == (0, 3, 3)
    assert [entry["ino"] for entry in subject["inside"]["user_ns"]] == [INUM, HOST_INUMS[USER]]


def test_one_of_the_initial_namespace_and_one_without_a_context_have_none() -> None:
    builder = NativeBuilder(HOST, around=known())
    for each in (event(*EXEC, context=context()), event(*EXEC), event((1112, USER_LOGIN), context=context())):
        assert "inside" not in builder.build(each)["subject"]


def test_one_of_a_later_namespace_of_that_number_has_none() -> None:
    around = known()
    around.learn(batch(freed(INUM, TIME - 1), made("user", INUM, TIME - 1)))
    around.learn(batch(freed(INUM, TIME), made("user", INUM, TIME)))
    late = rootless()._replace(time=TIME + 5)
    assert "inside" not in NativeBuilder(HOST, around=around).build(event(*EXEC, context=late))["subject"]


def test_a_refused_message_has_the_numbers_of_its_sender() -> None:
    fact = Refused(TIME, rootless(), 1112, 5, b"uid=0", 100004, 0)
    told = event(context=None)
    told.stamp, told.records, told.told, told.own_id = b"1772366400.042:0", [], fact, "5eed0001/12"
    native = NativeBuilder(HOST, around=known()).build(told)
    subject = native["subject"]
    assert (subject["uid"], subject["gid"]) == (100004, 0)
    assert (subject["inside"]["uid"], subject["inside"]["gid"]) == (13, 3)
    assert native["refused"] == {"type": "USER_LOGIN", "text": "uid=0", "length": 5}


# -- audit text -------------------------------------------------------------------------------------------------


def inside_lines(view: AuditText, made: Event) -> list[bytes]:
    return [line for line in view.render(made).splitlines() if b" subject_" in line]


@pytest.mark.parametrize("records", [EXEC, ((1112, USER_LOGIN),), ((1400, b"avc: denied uid=x"),), ()])
def test_text_has_what_json_has(records: tuple[tuple[int, bytes], ...]) -> None:
    around, made = known(), event(*records, context=rootless())
    inside = NativeBuilder(HOST, around=around).build(made)["subject"]["inside"]
    (line,) = inside_lines(AuditText(HOST, around), made)
    head, _, fields = line.partition(b": ")
    assert head == b"type=UNKNOWN[1390] msg=audit(%b)" % made.stamp
    assert fields.split(b" ") == flat({"subject": {"inside": inside}})


def test_in_text_it_is_a_line_behind_our_first_one() -> None:
    lines = AuditText(HOST, known()).render(event(*EXEC, context=rootless())).splitlines()
    ours = [place for place, line in enumerate(lines) if line.startswith(b"type=UNKNOWN[")]
    first, second = (lines[place].partition(b": ")[2] for place in ours)
    assert (ours[1] - ours[0], first[:10]) == (1, b'record="1"')
    assert lines[ours[1] + 1].startswith(b"type=PROCTITLE ")
    assert second.startswith(b'subject_inside_uid="3" subject_inside_gid="3" ')
    assert b' subject_inside_owner_uid="1000" subject_inside_owner_gid="1001" ' in second
    assert second.endswith(b' subject_inside_user_ns_2_host="yes"')
    assert b"record=" not in second


def test_two_users_of_one_namespace_are_told_apart_and_a_later_namespace_has_none() -> None:
    around = known()
    view = AuditText(HOST, around)
    other = ((1300, SYSCALL.replace(b" uid=0 ", b" uid=100004 ")), *EXEC[1:])
    said = [inside_lines(view, event(*records, context=rootless())) for records in (EXEC, other, EXEC)]
    assert [b'subject_inside_uid="%d"' % uid in line for (line,), uid in zip(said, (3, 13, 3), strict=True)]
    assert said[0] == said[2] != said[1]
    around.learn(batch(freed(INUM, TIME - 1), made("user", INUM, TIME)))
    late = rootless()._replace(time=TIME + 5)
    assert inside_lines(view, event(*EXEC, context=late)) == []


def test_nothing_is_added_and_nothing_decoded_in_the_initial_user_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("enricher.enrich.decode.Decoder.entries", None)
    for each in (
        event(*EXEC, context=context()),
        event(*EXEC),
        event(*EXEC, context=rootless()._replace(flags=0)),
    ):
        with_maps = AuditText(HOST, known()).render(each)
        assert with_maps == AuditText(HOST).render(each)
        assert b"subject_" not in with_maps


def test_no_more_is_kept_of_it_than_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_text, "_INSIDES", 2)
    view = AuditText(HOST, known())
    for uid in range(100000, 100006):
        records = ((1300, SYSCALL.replace(b" uid=0 ", b" uid=%d " % uid)), *EXEC[1:])
        (line,) = inside_lines(view, event(*records, context=rootless()))
        assert b'subject_inside_uid="%d"' % (uid - 100000 + 9) in line
    assert len(view._insides) == 2
