"""Maps once they are computed: kept on disk, ranked, compared, varied, and where in the body they lie."""
