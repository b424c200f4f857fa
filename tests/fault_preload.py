"""Imported by the process that builds with faults are forked from; see tests/fault_launcher.py."""

from tests.fault_launcher import import_all

import_all()
