# SPDX-License-Identifier: Apache-2.0
# What scan.py does, for modules that Cython compiles: the same answers without an object for each. See
# docs/adr/0022-hot-modules-compiled.md.

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

cdef inline Py_ssize_t _digits(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    while at < end and 0x30 <= data[at] <= 0x39:
        at += 1
    return at

cdef inline Py_ssize_t stamp_end(const unsigned char *data, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t begin = at
    at = _digits(data, begin, end)
    if not 1 <= at - begin <= 19 or at == end or data[at] != 0x2E:
        return 0
    begin = at + 1
    at = _digits(data, begin, end)
    if not 1 <= at - begin <= 9 or at == end or data[at] != 0x3A:
        return 0
    begin = at + 1
    at = _digits(data, begin, end)
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
