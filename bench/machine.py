"""Describe the machine, the Python and the packages that a run was made with."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("dingo-tasks", "joblib", "huey", "taskiq")


def describe(packages=PACKAGES):
    """Return a flat dict of printable facts."""
    return {
        "cpu": _cpu(),
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load before the run": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        **{package: _version(package) for package in packages},
    }


def _field(path, name):
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _cpu():
    return _field("/proc/cpuinfo", "model name") or platform.machine()


def _memory():
    kilobytes = int(_field("/proc/meminfo", "MemTotal").split()[0])
    return f"{kilobytes / 2**20:.1f} GiB"


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "the checkout" if package == "dingo-tasks" else "not installed"
