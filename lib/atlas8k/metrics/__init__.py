"""How far two label maps agree: DSC and NSD."""
