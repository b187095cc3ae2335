"""The tables of docs/results.md: many recipes, settings and seeds, trained and scored by one command."""
