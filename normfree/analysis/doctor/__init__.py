"""What is wrong with a network, and how to mend it: each check is one function."""

from normfree.analysis.doctor.examine import CHECKS, examine
from normfree.analysis.doctor.finding import Finding, Patient

__all__ = ["CHECKS", "Finding", "Patient", "examine"]
