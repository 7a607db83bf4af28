# SPDX-License-Identifier: Apache-2.0
"""Linux audit records with the namespaces and the container of the task that acted."""

from enricher import forms

__version__ = "0.1.0"

forms.choose()
