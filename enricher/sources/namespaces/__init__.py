# SPDX-License-Identifier: Apache-2.0
"""The namespaces that this host has now, as its file system /proc tells of them."""
