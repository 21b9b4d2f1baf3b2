"""How fast training data is generated, and checked by the engines, here: python benchmarks/generate.py [N]"""
import sys
from time import perf_counter, process_time

from shutka.generate.cypher import generate_cypher
from shutka.generate.engines import GraphEngine, has_engine, lint_queries
from shutka.generate.schemas import BUNDLED_SCHEMAS


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    begun = process_time()
    rows = generate_cypher(n)
    print(f'generated: {n / (process_time() - begun):,.0f} rows a second of one core')
    shapes = {row['shape']: row for row in rows}
    queries = {(row['schema'], row['output']) for row in rows}
    print(f'{len(rows):,} rows, {len(queries):,} queries, {len(shapes):,} shapes')
    if has_engine():
        begun = perf_counter()
        for schema in BUNDLED_SCHEMAS.values():
            with GraphEngine(schema) as engine:
                for name, query in queries:
                    if name == schema.name: engine.run(query)
        print(f'run by ArcadeDB: {len(queries) / (perf_counter() - begun):,.0f} queries a second, with its start')
    begun = perf_counter()
    found = lint_queries([(BUNDLED_SCHEMAS[row['schema']], row['output']) for row in shapes.values()])
    took = perf_counter() - begun
    print(f"read by Neo4j's parser: {len(shapes) / took:,.1f} shapes a second, {len(queries) / took:,.0f} queries, "
          f'{n / took:,.0f} rows; {sum(map(bool, found))} complaints')


if __name__ == '__main__': main()
