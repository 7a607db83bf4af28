# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest, `python3 -m variety` beside it: many kinds of records, of names and of system calls."""
