"""``python -m halfwave`` is the command `halfwave`."""

import sys

from .cli import main

sys.exit(main())
