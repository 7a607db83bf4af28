# SPDX-License-Identifier: Apache-2.0
"""The kernel's audit system as a source: reading its records, asking it questions, parsing its text."""
