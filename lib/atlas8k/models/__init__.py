"""The networks: checkpoints, the prediction of one CT, and the set that is served.

Read in the order in which a CT passes through:

========================  ==========================================================
module                    idea
========================  ==========================================================
:mod:`.networks`          architecture as JSON -> network (MONAI's, nothing of our own)
:mod:`.checkpoint`        one ``.safetensors`` file = weights + all that prediction needs
:mod:`.sets`              one set of networks: files, description, model version
:mod:`.store`             the folder of sets: embedded, trained ones, which is served
:mod:`.importing`         published weights of other projects as checkpoints
:mod:`.body`              where the patient is in a CT
:mod:`.preprocess`        CT -> intensities 0..1 on the network's grid
:mod:`.windows`           windows and their blending: intensities -> probabilities
:mod:`.regrid`            probabilities to a common grid, labels back to the CT's
:mod:`.resources`         memory and threads a network may use
:mod:`.predict`           the three networks over one CT, probabilities on one grid
:mod:`.ensemble`          probabilities -> labels
========================  ==========================================================

In three lines::

    served = ModelStore(Path("apps/atlas8k/model")).served()
    prediction = Predictor(served).predict(read_ct("ct.nii.gz"))
    label = prediction.label_on(ct.grid)          # (X, Y, Z) uint8, the CT's own grid

This package and :mod:`atlas8k.training` are the only ones that import torch and MONAI;
nothing is imported here, so that ``import atlas8k.models`` stays cheap.
"""
