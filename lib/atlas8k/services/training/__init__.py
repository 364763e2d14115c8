"""The trainer `atlas8k`: what may be learned, the training itself, what becomes of its result.

===================  =============================================================
:mod:`.cases`        assembled labels, with the organs that people stand for
:mod:`.reading`      the same for a command, which changes nothing there
:mod:`.train`        MONAI Label's train task
:mod:`.progress`     what 3D Slicer, the log and TensorBoard see of it
:mod:`.publishing`   the gate, and what is served from then on
:mod:`.kept_aside`   what is not, with the reason
===================  =============================================================
"""
