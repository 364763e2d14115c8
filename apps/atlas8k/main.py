"""What ``monailabel start_server --app apps/atlas8k`` loads."""

from atlas8k.server.app import Atlas8kApp

__all__ = ["Atlas8kApp"]
