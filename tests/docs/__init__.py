"""Examples of the documentation, run as tests, and what fills the pages."""
