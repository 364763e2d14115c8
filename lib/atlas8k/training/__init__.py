"""Training: new networks, or on from served ones with the labels that people have made.

==================  ================================================================
module              idea
==================  ================================================================
:mod:`.config`      what a training does, one frozen record
:mod:`.data`        CT + label + which organs are labeled -> prepared volumes
:mod:`.kept`        prepared volumes on disk, made once a training
:mod:`.patches`     prepared volumes -> random batches, bounded memory
:mod:`.augment`     one random patch: where, how turned, how bright
:mod:`.losses`      Dice + cross-entropy without what nobody labeled
:mod:`.supervision` one step's gradient; pseudo labels by their weight
:mod:`.loop`        the loop, read from top to bottom; its state, and how it goes on
:mod:`.ranks`       one training in several processes, as torchrun starts them
:mod:`.finetune`    served networks + cases -> better ones; who is held out
:mod:`.resume`      a killed training goes on, if it is still the same one
:mod:`.tracking`    curves for TensorBoard and MLflow
:mod:`.measuring`   served and new networks side by side on labeled cases
:mod:`.gate`        whether the new ones may take their place
:mod:`.scratch`     architectures with random weights, and phantoms as cases
==================  ================================================================

Nothing is imported here, so that ``import atlas8k.training`` stays cheap.
"""
