"""Jobs as UWS 1.1 knows them: their phases, a durable store that several processes share, and the rules of the service.

The web process creates jobs; workers claim them. What a job computes is in `inzitu.pipelines` and `inzitu.run`.
"""
