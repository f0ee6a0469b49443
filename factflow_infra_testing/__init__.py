"""The testing kit: production providers on simulated backends, in virtual time. Load with ``pytest -p factflow_infra_testing``."""

pytest_plugins = ("factflow_infra_testing.plugin",)
