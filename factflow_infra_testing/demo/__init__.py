"""The example that ``factflow-sim demo`` searches, mends and runs for real."""
