"""The ledger as the rest of the product sees it: one object, one method a transaction."""

from __future__ import annotations

from atlas8k.ledger.api_campaign import CampaignMethods
from atlas8k.ledger.api_review import ReviewMethods
from atlas8k.ledger.api_scores import ScoreMethods
from atlas8k.ledger.api_work import WorkMethods


class Ledger(ScoreMethods, WorkMethods, ReviewMethods, CampaignMethods):
    """Scores, leases, submissions and rounds of one studies folder, in one SQLite file.

    Safe for any number of threads and processes at once. Every method is one transaction:
    it happens whole or not at all.

    Parameters
    ----------
    path
        The file; made if missing, brought up to date if older.
    budget
        Fraction of the volumes to review in a round, for rounds opened from here.
    lease_minutes
        How long a volume stays with its holder.
    skip_minutes
        How long a holder gets others before one that was skipped; default `lease_minutes`.
    timeout_s
        How long to wait for another process's transaction.
    clock
        UTC seconds since 1970.

    Raises
    ------
    LedgerFileError
        From every method: the file is locked, full, read-only, damaged, newer, or on a
        network file system; the subclass and the message say which and what to do.
    """
