"""``python -m recipesearch``."""

from .cli import main

main()
