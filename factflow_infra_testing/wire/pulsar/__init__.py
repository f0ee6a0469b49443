"""Pulsar's binary protocol over the simulated broker."""
