"""The words of the VO protocols: DALI parameters, VOTable, UWS, TAP and VOSI documents."""
