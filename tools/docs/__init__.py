# SPDX-License-Identifier: Apache-2.0
"""What tools/gen_docs.py writes is put together here. Never a part of the program."""
