"""Train new networks, or served ones on the labels that people have made.

=====================  ================================================================
module                 idea
=====================  ================================================================
:mod:`.config`         what a training does, one frozen record
:mod:`.data`           CT + label + which organs are labeled -> prepared volumes
:mod:`.prepared_cache` prepared volumes on disk, resampled once a training
:mod:`.split`          who is trained on and who is measured on
:mod:`.patches`        prepared volumes -> random batches, bounded memory
:mod:`.augment`        one random patch: where, how turned, how bright
:mod:`.losses`         Dice + cross-entropy without what nobody labeled; a step's gradient
:mod:`.loop`           the loop, read from top to bottom
:mod:`.time_budget`    the minutes a training has, on a device that others want too
:mod:`.validation`     mean DSC on a network's own grid
:mod:`.ranks`          one training in several processes, as torchrun starts them
:mod:`.finetune`       served networks + cases -> better ones
:mod:`.resume`         a killed training goes on, if it is still the same one
:mod:`.tracking`       curves for TensorBoard and MLflow
:mod:`.measuring`      served and new networks side by side on labeled cases
:mod:`.gate`           whether the new ones may take their place
:mod:`.scratch`        architectures with random weights
:mod:`.generated`      phantoms, and CTs painted on real bodies, as cases
=====================  ================================================================

Nothing is imported here, so that ``import atlas8k.training`` stays cheap.
"""
