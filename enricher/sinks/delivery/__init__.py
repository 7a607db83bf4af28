# SPDX-License-Identifier: Apache-2.0
"""Delivery of events to receivers that may be slow, away or wrong: queue, spool, courier and protocols."""
