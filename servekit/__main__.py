"""`python -m servekit` is `servekit`."""

from servekit.cli import main

if __name__ == "__main__":
    main()
