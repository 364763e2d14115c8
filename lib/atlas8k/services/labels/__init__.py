"""The labels of a studies folder: files and store together, one volume at a time.

===========================  =====================================================
:mod:`.service`              :class:`~.service.LabelService`, the whole of it: begin here
:mod:`.submissions`          a client's label, understood, written, entered in the store
:mod:`.drafts`               the draft label: public, revised, pseudo, fused
:mod:`.reconcile`            a change in one transaction, and files as the store says
:mod:`.reviews`              after the submission: reviewed, restored, opened again
:mod:`.existing_labels`      labels that were in the folder before: imported, or set aside
:mod:`.recorded`             what was recorded of each organ, in words
:mod:`.ingest`               a label that is no submission: of a tag that people chose
===========================  =====================================================
"""
