"""Packages that need no network load none: whoever wants a metric does not wait for torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = ("core", "formats", "metrics", "attention", "content", "labels", "store", "reports")
HEAVY = ("torch", "monai", "monailabel", "fastapi")


@pytest.mark.parametrize("package", [*(f"atlas8k.{name}" for name in LIGHT), "abdomen_phantom"])
def test_every_module_of_a_light_package_loads_without_networks_or_a_server(package):
    code = f"""
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(found.name)
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
