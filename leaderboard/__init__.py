"""The results store: run folders, their schemas, and what is ranked and published from them. Never imports torch."""
