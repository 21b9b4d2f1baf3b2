"""Products put together: rows are generated, learned, and what both models answer is proven.

    from shutka.guides.queries import examine_queries, make_query_rows
    from shutka.guides.settings import CypherSettings
    from shutka.guides.teaching import export_tuned, teach
    settings = CypherSettings(num_examples=500, minutes=10)
    teach(settings, make_query_rows(settings))
    examine_queries(settings)
    export_tuned(settings)

    from shutka.guides.code_data import build_code_data, train_on_code
    from shutka.guides.settings import CodeDataSettings
    settings = CodeDataSettings(preset='gpt2_tiny', source='dir:src')
    build_code_data(settings)
    train_on_code(settings)
"""
