"""Training: three networks from phantoms, or on from served ones with submitted labels.

==================  ================================================================
module              idea
==================  ================================================================
:mod:`.config`      what a training does, one frozen record
:mod:`.data`        CT + label + which organs are labeled -> prepared volumes
:mod:`.patches`     prepared volumes -> random batches, bounded memory
:mod:`.augment`     one random patch: where, how turned, how bright
:mod:`.losses`      Dice + cross-entropy without what nobody labeled
:mod:`.loop`        the loop, read from top to bottom; its state, and how it goes on
:mod:`.finetune`    served networks + cases -> better ones; who is held out
:mod:`.resume`      a killed training goes on, if it is still the same one
:mod:`.measuring`   served and new networks side by side on labeled cases
:mod:`.gate`        whether the new ones may take their place
:mod:`.scratch`     the embedded architectures, and phantoms as cases
==================  ================================================================

Nothing is imported here, so that ``import atlas8k.training`` stays cheap.
"""
