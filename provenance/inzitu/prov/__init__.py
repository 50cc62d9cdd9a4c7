"""The record of what made what: artefacts named by their content, the activities that made them, and who ran those.

    facts           artefacts, activities, agents
    store           content on disk, named by its hash
    schema          the tables of the record
    history         what the record says
    recorder        writes content and record together
    lineage         the ancestors or descendants of an artefact
    names           vocabularies and identifiers in documents
    documents       a lineage as a W3C PROV document with IVOA ProvenanceDM attributes
    formats         PROV-JSON, PROV-N, PROV-XML, Turtle and drawings of a document
    verification    re-hashes a lineage and names the first link that fails

It knows nothing of redshifts, of jobs beyond their names, or of HTTP.
"""
