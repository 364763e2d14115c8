"""The labels of a studies folder: files and ledger together, one volume at a time.

===========================  =====================================================
:mod:`.service`              :class:`~.service.LabelService`, the whole of it: begin here
:mod:`.submissions`          a client's label, understood, written, booked
:mod:`.drafts`               the draft label: public, revised, pseudo, fused
:mod:`.reconcile`            files as the ledger says, whoever was killed when
:mod:`.reviews`              after the submission: reviewed, restored, opened again
:mod:`.existing_labels`      labels that were in the folder before: imported, or set aside
:mod:`.recorded`             what was recorded of each organ, in words
:mod:`.ingest`               a label of another tag, made into one of ours
===========================  =====================================================
"""
