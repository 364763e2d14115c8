"""The labels of a studies folder: files and ledger together, one volume at a time.

Import :class:`~atlas8k.server.desk.desk.Desk` from its module, which is the whole of it:

====================  ============================================================
:mod:`.submission`    a label as a client sends it, made into one of ours, or refused
:mod:`.submitting`    booked as a submission, and put in force
:mod:`.assembling`    the start label: public, revised, pseudo, put together
:mod:`.deciding`      after the submission: reviewed, restored, opened again
:mod:`.reviewing`     what a reviewer is shown
:mod:`.adopting`      label files of killed processes
:mod:`.existing`      labels that were in the folder before: imported, or set aside
:mod:`.settling`      files kept as the ledger says, whoever was killed when
====================  ============================================================
"""
