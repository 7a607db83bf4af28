# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles journalformat.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

@cython.locals(seconds=bytes, rest=bytes, ms=bytes, digits=bytes)
cpdef numbers_of(bytes stamp)
