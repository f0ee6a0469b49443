"""Front ends: protocols of real brokers over the simulated one, for clients that are not changed for a test."""
