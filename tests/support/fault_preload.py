"""Imported by the process that builds with faults are forked from; see tests/support/fault_launcher.py."""

from tests.support.fault_launcher import import_all

import_all()
