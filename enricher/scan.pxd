# SPDX-License-Identifier: Apache-2.0
# What scan.py does, for modules that Cython compiles: the same answers without an object for each. See
# docs/adr/0022-hot-modules-compiled.md.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy

cdef inline Py_ssize_t find(const unsigned char *data, int byte, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    cdef const unsigned char *found
    if at >= end:
        return end
    found = <const unsigned char *>memchr(data + at, byte, end - at)
    return end if found == NULL else found - data

cdef inline bint is_at(const unsigned char *data, bytes word, Py_ssize_t at, Py_ssize_t end) noexcept:
    cdef Py_ssize_t size = len(word)
    return size <= end - at and memcmp(data + at, <const unsigned char *>word, size) == 0

cdef inline Py_ssize_t digits(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    while at < end and 0x30 <= data[at] <= 0x39:
        at += 1
    return at

cdef inline long long number(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    cdef unsigned long long made = 0
    while at < end:
        made = 10 * made + (data[at] - 0x30)
        at += 1
    return <long long>made

cdef inline Py_ssize_t word(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    while at < end and (0x30 <= data[at] <= 0x39 or 0x61 <= (data[at] | 0x20) <= 0x7A):
        at += 1
    return at

cdef inline Py_ssize_t stamp_end(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t begin = at
    at = digits(data, begin, end)
    if not 1 <= at - begin <= 19 or at == end or data[at] != 0x2E:
        return 0
    begin = at + 1
    at = digits(data, begin, end)
    if not 1 <= at - begin <= 9 or at == end or data[at] != 0x3A:
        return 0
    begin = at + 1
    at = digits(data, begin, end)
    if not 1 <= at - begin <= 19 or at + 2 > end or data[at] != 0x29 or data[at + 1] != 0x3A:
        return 0
    return at

cdef inline bint is_clean(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    cdef uint64_t word
    cdef Py_ssize_t each
    while at + 8 <= end:
        memcpy(&word, data + at, 8)
        # The high bit of each byte that has it, is below 0x20 or is 0x7f; a carry goes no further than from one of those.
        if (word | (word - 0x2020202020202020u) | (word + 0x0101010101010101u)) & 0x8080808080808080u:
            for each in range(at, at + 8):
                if not (0x20 <= data[each] <= 0x7E or data[each] == 0x09):
                    return False
        at += 8
    while at < end:
        if not (0x20 <= data[at] <= 0x7E or data[at] == 0x09):
            return False
        at += 1
    return True

cdef inline bint _plain(int byte, int also) noexcept nogil:
    return 0x20 <= byte <= 0x7E and byte != 0x22 and byte != 0x5C or byte == also

cdef inline bint is_plain(const unsigned char *data, Py_ssize_t at, Py_ssize_t end, int also) noexcept nogil:
    cdef uint64_t word, quotes, slashes
    cdef Py_ssize_t each
    while at + 8 <= end:
        memcpy(&word, data + at, 8)
        # As above; and a byte that is a quote or a backslash is zero here, so one less has the high bit.
        quotes = word ^ 0x2222222222222222u
        slashes = word ^ 0x5C5C5C5C5C5C5C5Cu
        if (
            word | (word - 0x2020202020202020u) | (word + 0x0101010101010101u)
            | (quotes - 0x0101010101010101u) | (slashes - 0x0101010101010101u)
        ) & 0x8080808080808080u:
            for each in range(at, at + 8):
                if not _plain(data[each], also):
                    return False
        at += 8
    while at < end:
        if not _plain(data[at], also):
            return False
        at += 1
    return True

cdef inline int _nibble(int byte) noexcept nogil:
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    return byte - 0x37 if 0x41 <= byte <= 0x46 else -1

cdef inline bytes unhex(const unsigned char *data, Py_ssize_t at, Py_ssize_t end):
    cdef Py_ssize_t size = end - at
    cdef Py_ssize_t each
    cdef int byte
    cdef bytes made
    cdef unsigned char *out
    if size < 0 or size & 1:
        return None
    made = PyBytes_FromStringAndSize(NULL, size >> 1)
    out = <unsigned char *>PyBytes_AS_STRING(made)
    for each in range(size >> 1):
        byte = _nibble(data[at + 2 * each]) << 4 | _nibble(data[at + 2 * each + 1])
        if byte < 0:
            return None
        out[each] = byte
    return made
