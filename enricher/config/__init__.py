# SPDX-License-Identifier: Apache-2.0
"""The settings: declared once, read from files, environment and command line."""
