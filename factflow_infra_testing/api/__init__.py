"""The API tier: stand-ins for client libraries that cannot live in virtual time, over the simulated broker."""
