# SPDX-License-Identifier: Apache-2.0
# The types with which Cython compiles journal_rows.py; the source runs without. See docs/adr/0022-hot-modules-compiled.md.

cimport cython

@cython.locals(serial="long long", last="long long", serials=list, times=list, contexts=list, entry=tuple)
cdef _in_order(entries)

@cython.locals(contexts=list, first=dict, last=dict, at=Py_ssize_t)
cdef dict _spans(list segments)
