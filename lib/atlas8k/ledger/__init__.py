"""Scores, leases, label history and rounds in one SQLite file: the memory of the product."""

from __future__ import annotations

from atlas8k.ledger.errors import (
    LedgerCorruptError,
    LedgerFileError,
    LedgerFullError,
    LedgerLockedError,
    LedgerReadOnlyError,
    LedgerVersionError,
    NetworkFileSystemError,
    UnknownSignatureError,
    UnknownVolumeError,
)
from atlas8k.ledger.filesystem import is_network, is_url, locate
from atlas8k.ledger.ledger import Ledger
from atlas8k.ledger.records import (
    Begun,
    Budget,
    Counts,
    Holder,
    LabelFile,
    Lease,
    Offer,
    OrganAttention,
    OrganChange,
    OrganScore,
    OrganSource,
    Progress,
    Ranked,
    Review,
    Sample,
    Submission,
    VolumeEntry,
)
from atlas8k.ledger.records_campaign import CampaignSettings, Plan, Planned, Trained, Worked
from atlas8k.ledger.rounds import Round
from atlas8k.ledger.usability import Usability

__all__ = [
    "Begun",
    "Budget",
    "CampaignSettings",
    "Counts",
    "Holder",
    "LabelFile",
    "Lease",
    "Ledger",
    "LedgerCorruptError",
    "LedgerFileError",
    "LedgerFullError",
    "LedgerLockedError",
    "LedgerReadOnlyError",
    "LedgerVersionError",
    "NetworkFileSystemError",
    "Offer",
    "OrganAttention",
    "OrganChange",
    "OrganScore",
    "OrganSource",
    "Plan",
    "Planned",
    "Progress",
    "Ranked",
    "Review",
    "Round",
    "Sample",
    "Submission",
    "Trained",
    "UnknownSignatureError",
    "UnknownVolumeError",
    "Usability",
    "VolumeEntry",
    "Worked",
    "is_network",
    "is_url",
    "locate",
]
