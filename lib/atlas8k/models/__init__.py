"""The networks: what a checkpoint is, how one CT is predicted, which set is served.

Read in the order in which a CT passes through:

========================  ==========================================================
module                    idea
========================  ==========================================================
:mod:`.networks`          architecture as JSON -> network (MONAI's, nothing of our own)
:mod:`.checkpoint`        one ``.safetensors`` file = weights + all that prediction needs
:mod:`.store`             the folder of sets: embedded, trained ones, which is served
:mod:`.preprocess`        CT -> intensities 0..1 on the network's grid
:mod:`.windows`           body box, windows over it, blending: intensities -> probabilities
:mod:`.predict`           the three networks over one CT, probabilities on one grid
:mod:`.ensemble`          probabilities -> labels
========================  ==========================================================

In three lines::

    served = ModelStore(Path("apps/atlas8k/model")).served()
    prediction = Predictor(served.load()).predict(read_ct("ct.nii.gz"))
    label = prediction.label_on(ct.grid)          # (X, Y, Z) uint8, the CT's own grid

This package and :mod:`atlas8k.training` are the only ones that import torch and MONAI;
nothing is imported here, so that ``import atlas8k.models`` stays cheap.
"""
