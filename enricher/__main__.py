# SPDX-License-Identifier: Apache-2.0
"""``python3 -m enricher`` is the command ``audit-enricher``."""

import sys

from enricher.cli.main import main

sys.exit(main())
