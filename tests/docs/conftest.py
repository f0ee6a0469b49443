"""``failing`` holds examples that are meant to fail: ``test_pages.py`` runs them and puts their reports into the guide."""

collect_ignore = ["failing"]
