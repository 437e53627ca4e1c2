"""`python -m ptunnel`: the same as the command."""

import sys

from ptunnel.cli import main

sys.exit(main())
