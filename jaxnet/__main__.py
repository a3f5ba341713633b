"""`python -m jaxnet` is the `jaxnet` command."""

import sys

from jaxnet.cli.parser import main

sys.exit(main())
