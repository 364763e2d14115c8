"""The MONAI Label side: the only package that imports monailabel.

Nothing is imported here, so that a command can use one module (the settings of a
request, the text of a message) without starting torch.
"""
