"""Products put together: rows are generated, learned, and what both models answer is proven.

    from shutka.guides.queries import examine_queries, make_query_rows
    from shutka.guides.settings import CypherSettings
    from shutka.guides.teaching import export_tuned, teach
    settings = CypherSettings(num_examples=500, minutes=10)
    teach(settings, make_query_rows(settings))
    examine_queries(settings)
    export_tuned(settings)
"""
