"""`python -m crossfade`: the command line."""

from __future__ import annotations

from crossfade.cli.main import main

if __name__ == "__main__":
    main()
