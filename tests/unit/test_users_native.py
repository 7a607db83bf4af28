# SPDX-License-Identifier: Apache-2.0
"""Who a subject is inside of his user namespace, in whole events."""

from __future__ import annotations

from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.enrich.users import USER
from enricher.facts import Extent, Refused, UserMap
from enricher.model import Context
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, HOST_INUMS, USER_LOGIN, context, event
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
