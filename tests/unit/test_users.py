# SPDX-License-Identifier: Apache-2.0
"""User namespaces' maps: from the kernel side's message to what a subject is inside of one."""

from __future__ import annotations

import struct

import pytest

from enricher.correlate.lives import Lives
from enricher.enrich import users
from enricher.enrich.namespaces import NamespaceEntries
from enricher.enrich.shape import Subject
from enricher.enrich.users import USER, UserMaps
from enricher.facts import Extent, NamespaceLife, NamespaceOp, UserMap
from enricher.model import Context
from enricher.sources.bpf import wire, wirefacts
from tests.unit.sample_events import HOST, HOST_INUMS, context

INITIAL = HOST_INUMS[USER]
BOX, DEEP = 4026532300, 4026532301
SECOND = 10**9
ROOTLESS = (Extent(0, 1000, 1), Extent(1, 100000, 65536))
"""As newuidmap writes it for the user 1000."""


def made(inum: int, time: int, parent: int = INITIAL, ident: int = 0) -> NamespaceLife:
    return NamespaceLife(
        time, NamespaceOp.MADE, inum, USER, ident, parent, parent, 1, 7, 7, 1, 9, 1000, b"unshare"
    )


def freed(inum: int, time: int) -> NamespaceLife:
    return NamespaceLife(time, NamespaceOp.FREED, inum, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")


def told(  # noqa: PLR0913 - each is a fact a test may want to vary
    inum: int,
    time: int,
    uids: tuple[Extent, ...] = ROOTLESS,
    gids: tuple[Extent, ...] = ROOTLESS,
    above: tuple[int, ...] = (INITIAL,),
    ids: tuple[int, ...] = (),
) -> UserMap:
    ids = ids or (0,) * (1 + len(above))
    return UserMap(time, inum, len(above), 1000, 1001, above, ids, uids, gids, whole=True)


class Table:
    """A table of maps, and the lives it rests on."""

    def __init__(
        self, *facts: NamespaceLife | UserMap, limit: int = users.LIMIT, watched: bool = True
    ) -> None:
        self.lives = Lives()
        self.lives.watched = watched
        self.maps = UserMaps(self.lives, limit)
        self.entries = NamespaceEntries(HOST, self.lives)
        self.learn(*facts)

    def learn(self, *facts: NamespaceLife | UserMap) -> None:
        self.lives.learn(facts)
        self.maps.learn(facts)

    def uid(self, number: int, time: int, inum: int = BOX) -> int | None:
        known = self.maps.at(inum, time)
        return None if known is None else known.uids.inside(number)

    def inside(self, time: int, inum: int = BOX, ident: int = 0, **numbers: int) -> object:
        subject: Subject = numbers  # type: ignore[assignment]
        return self.maps.inside(seen(inum, time, ident), subject, self.entries)


def seen(inum: int, time: int, ident: int = 0) -> Context:
    inums = (*HOST_INUMS[:USER], inum, *HOST_INUMS[USER + 1 :])
    ids = (0,) * USER + (ident,) + (0,) * (len(inums) - USER - 1)
    return context()._replace(inums=inums, ids=ids, time=time)


# -- one map ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        *((1000, 0), (100000, 1), (165535, 65536), (165536, None), (0, None)),
        *((999, None), (1001, None), (65534, None), (4294967295, None)),
    ],
)
def test_a_number_is_what_the_extents_make_of_it_and_else_nothing(outside: int, inside: int | None) -> None:
    assert users.Numbers(ROOTLESS).inside(outside) == inside


def test_extents_may_stand_in_any_order() -> None:
    numbers = users.Numbers((Extent(500, 10, 5), Extent(0, 300, 5), Extent(100, 20, 1)))
    assert [numbers.inside(number) for number in (9, 10, 14, 15, 20, 21, 304)] == [
        *(None, 500, 504, None, 100, None),
        4,
    ]


def test_nothing_is_mapped_before_a_map_is_written() -> None:
    assert users.Numbers(()).inside(0) is None


# -- which map --------------------------------------------------------------------------------------------------


def test_a_map_that_is_written_late_counts_from_then_on() -> None:
    table = Table(made(BOX, 100), told(BOX, 110, (), ()), told(BOX, 200, ROOTLESS, ()), told(BOX, 300))
    assert [table.uid(1000, time) for time in (109, 110, 199, 200, 300)] == [None, None, None, 0, 0]
    assert table.inside(150, uid=1000, gid=1000) == {
        "owner": {"uid": 1000, "gid": 1001},
        "user_ns": [
            {"ino": BOX, "life": "100", "host": False},
            {"ino": INITIAL, "life": "0", "host": True},
        ],
    }
    inside = table.inside(250, uid=1000, gid=1000)
    assert isinstance(inside, dict)
    assert (inside.get("uid"), inside.get("gid")) == (0, None)


def test_maps_may_come_in_another_order_than_they_were_told() -> None:
    maps = (told(BOX, time, (Extent(time, 1000, 1),)) for time in (300, 200, 400, 110))
    table = Table(made(BOX, 100), *maps)
    assert [table.uid(1000, time) for time in (109, 150, 250, 350, 450)] == [None, 110, 200, 300, 400]


def test_a_number_that_is_given_again_has_nothing_of_the_map_it_had() -> None:
    table = Table(made(BOX, 100), told(BOX, 110), freed(BOX, 200), made(BOX, 201))
    assert [table.uid(1000, time) for time in (199, 201, 500)] == [0, None, None]
    table.learn(told(BOX, 600, (Extent(7, 1000, 1),)))
    assert [table.uid(1000, time) for time in (199, 599, 600)] == [0, None, 7]


def test_nothing_is_said_where_nobody_tells_which_life_a_number_is_of() -> None:
    assert Table(told(BOX, 110), watched=False).inside(150, uid=1000) is None
    table = Table(made(BOX, 100), told(BOX, 110))
    table.learn(freed(BOX, 150)._replace(op=NamespaceOp.LOST))
    assert table.inside(160, uid=1000) is None


def test_nothing_is_said_of_the_initial_namespace_and_of_one_that_was_not_told() -> None:
    table = Table(made(BOX, 100), told(BOX, 110))
    assert table.inside(150, INITIAL, uid=0) is None
    assert table.inside(150, DEEP, uid=0) is None


def test_where_the_kernel_has_a_number_of_its_own_nobody_is_asked_about_lives() -> None:
    table = Table(
        told(BOX, 110, ids=(61, 1)),
        told(BOX, 120, (Extent(7, 1000, 1),), ids=(62, 1)),
        told(BOX, 130, (Extent(8, 1000, 1),), ids=(62, 1)),
        watched=False,
    )
    assert table.inside(140, ident=61, uid=1000) == {
        "uid": 0,
        "owner": {"uid": 1000, "gid": 1001},
        "user_ns": [
            {"ino": BOX, "id": "61", "life": "61", "host": False},
            {"ino": INITIAL, "id": "1", "life": "1", "host": True},
        ],
    }
    uids = [table.maps.at(BOX, time, 62) for time in (119, 125, 135)]
    assert [known and known.uids.inside(1000) for known in uids] == [None, 7, 8]
    assert table.inside(140, ident=63, uid=1000) is None


# -- the member -------------------------------------------------------------------------------------------------


def test_a_subject_has_every_number_that_is_mapped_and_the_chain_up_to_the_initial_one() -> None:
    table = Table(
        made(BOX, 100),
        made(DEEP, 120, BOX),
        told(BOX, 110),
        told(DEEP, 130, (Extent(0, 1000, 1),), (Extent(5, 100000, 10),), (BOX, INITIAL)),
    )
    assert table.inside(
        150,
        DEEP,
        uid=1000,
        euid=1000,
        suid=100000,
        fsuid=1000,
        gid=100003,
        egid=100003,
        sgid=1000,
        fsgid=100009,
    ) == {
        "uid": 0,
        "euid": 0,
        "fsuid": 0,
        "gid": 8,
        "egid": 8,
        "fsgid": 14,
        "owner": {"uid": 1000, "gid": 1001},
        "user_ns": [
            {"ino": DEEP, "life": "120", "host": False},
            {"ino": BOX, "life": "100", "host": False},
            {"ino": INITIAL, "life": "0", "host": True},
        ],
    }


def test_a_subject_without_numbers_has_the_chain_alone() -> None:
    inside = Table(made(BOX, 100), told(BOX, 110)).inside(150)
    assert isinstance(inside, dict)
    assert set(inside) == {"owner", "user_ns"}


# -- bounds -----------------------------------------------------------------------------------------------------


def test_the_one_told_of_longest_ago_goes_when_there_is_no_room() -> None:
    table = Table(*(told(inum, 10) for inum in (1, 2)), limit=2)
    table.learn(told(1, 20), told(3, 30))
    assert [table.uid(1000, 40, inum) for inum in (1, 2, 3)] == [0, None, 0]
    assert table.maps.forgotten == 1


def test_maps_of_one_number_are_kept_for_a_minute_and_not_without_end() -> None:
    table = Table(told(BOX, SECOND), told(BOX, 2 * SECOND), told(BOX, 90 * SECOND))
    assert table.uid(1000, SECOND + 1) is None  # replaced long ago
    assert table.uid(1000, 3 * SECOND) == 0  # in force a minute before the last
    for step in range(users.STATES_MAX * 2):
        table.learn(told(BOX, 100 * SECOND + step))
    assert table.maps.forgotten >= users.STATES_MAX
    assert table.uid(1000, 200 * SECOND) == 0


def test_a_map_is_kept_as_long_as_an_event_of_its_time_is_under_way() -> None:
    table = Table(told(BOX, SECOND), told(BOX, 2 * SECOND))
    table.maps.learn([told(BOX, 900 * SECOND)], oldest=SECOND + 1)
    assert table.uid(1000, SECOND + 1) == 0
    table.maps.learn([told(BOX, 901 * SECOND)], oldest=900 * SECOND)
    assert table.uid(1000, SECOND + 1) is None


def test_each_set_of_numbers_is_told_as_itself_and_few_are_kept() -> None:
    table = Table(made(BOX, 100), told(BOX, 110))
    for number in range(users.SAID_MAX + 10):
        inside = table.inside(150, uid=100000 + number, euid=1000)
        assert isinstance(inside, dict)
        assert (inside["uid"], inside["euid"]) == (1 + number, 0)
    assert len(table.maps._said) == users.SAID_MAX


# -- the wire ---------------------------------------------------------------------------------------------------


def message(uids: list[Extent], gids: list[Extent]) -> bytes:
    """As bpf/include/users.h makes it; what is left of the room holds old bytes."""
    large = max(len(uids), len(gids)) > wirefacts.USERS_EXTENTS
    room = wirefacts.USERS_EXTENTS_MAX if large else wirefacts.USERS_EXTENTS
    size = 568 + (2 * 12 * room if large else 0)
    above = [BOX, INITIAL] + [0] * 31
    ids = [52, 51, 1] + [0] * 31
    head = struct.pack("=HHIQ", wirefacts.EVENT_USERS, wire.EVENT_VERSION, size, 4711)
    head += struct.pack("=6I33II", DEEP, 2, 1000, 1001, len(uids), len(gids), *above, 0) + struct.pack(
        "=34Q", *ids
    )
    rows = b"".join(
        b"".join(struct.pack("=3I", *extent) for extent in extents).ljust(12 * room, b"\xee")
        for extents in (uids, gids)
    )
    return head + (bytes(120) if large else b"") + rows


@pytest.mark.parametrize("count", [0, 1, 5, 6, 340])
def test_a_message_has_as_many_extents_as_it_says(count: int) -> None:
    uids = [Extent(2 * number, 100000 + 2 * number, 1) for number in range(count)]
    raw = message(uids, [Extent(0, 1000, 1)])
    assert len(raw) in wirefacts.SIZES[wirefacts.EVENT_USERS]
    fact = wirefacts.DECODERS[wirefacts.EVENT_USERS](raw, 0)
    assert fact == UserMap(
        4711, DEEP, 2, 1000, 1001, (BOX, INITIAL), (52, 51, 1), tuple(uids), (Extent(0, 1000, 1),), whole=True
    )
