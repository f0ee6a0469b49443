"""The queue provider for Pulsar."""
