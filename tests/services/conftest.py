"""The same studies folder with tiny networks as for the server's tests."""

from tests.server.conftest import context, models, studies

__all__ = ["context", "models", "studies"]
