"""What stands in a database: this app's objects as PostgreSQL's catalogs describe them.

Each query names its columns as the facts are called in `expected.jsonl`. They are worded alike on every version of
PostgreSQL that this app supports, in every schema, and whichever Django migrated.
"""

from __future__ import annotations

import hashlib
from typing import Any

from audit.inspection.session import Place

__all__ = ["Facts", "Key", "read"]

Key = tuple[str, str, str]
"""Kind, table and name of an object; the table is empty for functions."""
Facts = dict[str, Any]

_RELATIONS = """
SELECT c.relname AS "table", c.relname AS name, c.relkind AS relkind, c.relpersistence AS persistence,
    c.relrowsecurity OR c.relforcerowsecurity AS row_security, c.relreplident AS replica_identity,
    c.relhastriggers OR NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid) AS fires_triggers,
    ARRAY(SELECT h.inhrelid::regclass::text FROM pg_inherits h WHERE h.inhparent = c.oid ORDER BY 1) AS children,
    ARRAY(SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = c.oid ORDER BY 1) AS parents
FROM pg_class c WHERE c.oid = ANY(%(tables)s)
"""
# From PostgreSQL 18 on a NOT NULL may be one that older rows need not keep (NOT VALID).
_COLUMNS = """
SELECT c.relname AS "table", a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull AND NOT EXISTS (
        SELECT FROM pg_constraint n WHERE n.conrelid = a.attrelid AND n.contype = 'n'
            AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated) AS not_null,
    pg_get_expr(d.adbin, d.adrelid) AS "default", a.attidentity AS identity, a.attgenerated AS generated,
    CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text ELSE '' END AS collation
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid = ANY(%(tables)s)
"""
# Primary keys and unique constraints are compared by their indexes, NOT NULL by the column. A foreign key without its
# triggers says what it always said and enforces nothing.
_CONSTRAINTS = """
SELECT c.relname AS "table", k.conname AS name, k.contype AS contype, k.convalidated AS valid,
    pg_get_constraintdef(k.oid) AS definition,
    (SELECT count(*) FROM pg_trigger t WHERE t.tgconstraint = k.oid) AS triggers
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype IN ('c', 'f', 'x') AND c.oid = ANY(%(tables)s)
"""
_INDEXES = """
SELECT c.relname AS "table", x.relname AS name, i.indisprimary AS "primary", i.indisunique AS "unique",
    i.indisvalid AND i.indisready AND i.indislive AS valid, i.indimmediate AS immediate,
    pg_get_indexdef(x.oid, 0, true) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.oid = ANY(%(tables)s)
"""
# The function is identified by where it really is: one of the same name in pg_catalog would be printed alike.
_TRIGGERS = """
SELECT c.relname AS "table", t.tgname AS name, t.tgenabled AS enabled, t.tgtype AS tgtype,
    CASE WHEN p.pronamespace = c.relnamespace THEN '' ELSE p.pronamespace::regnamespace::text || '.' END || p.proname
        AS function,
    pg_get_triggerdef(t.oid, true) AS definition
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND c.oid = ANY(%(tables)s)
"""
_FUNCTIONS = """
SELECT '' AS "table", p.proname AS name, p.prosrc AS body, l.lanname AS language,
    p.prorettype::regtype::text AS returns, p.prosecdef AS definer, coalesce(p.proconfig, '{}') AS config,
    p.provolatile AS volatility, p.proisstrict AS strict, p.proleakproof AS leakproof,
    EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0) AS public,
    ARRAY(SELECT a.grantee::regrole::text FROM aclexplode(p.proacl) AS a
        WHERE a.grantee NOT IN (0, p.proowner) ORDER BY 1) AS granted
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname LIKE 'audit\\_%%\\_v%%' AND p.pronargs = 0 AND n.nspname = %(schema)s
"""
_SEQUENCES = """
SELECT c.relname AS "table", s.relname AS name, a.attname AS "column", format_type(q.seqtypid, NULL) AS type,
    q.seqincrement > 0 AS ascending, q.seqcycle AS cycle
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid JOIN pg_sequence q ON q.seqrelid = s.oid
    JOIN pg_class c ON c.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    AND c.oid = ANY(%(tables)s)
"""
_RULES = """
SELECT c.relname AS "table", r.rulename AS name FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
WHERE r.rulename <> '_RETURN' AND c.oid = ANY(%(tables)s)
"""
_POLICIES = """
SELECT c.relname AS "table", p.polname AS name FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
WHERE c.oid = ANY(%(tables)s)
"""
# PostgreSQL's own are in C, and have object ids below 16384.
_BUILTINS = """
SELECT '' AS "table", p.proname || '(' || oidvectortypes(p.proargtypes) || ')' AS name, p.prosrc AS symbol,
    p.oid < 16384 AND l.lanname = 'internal' AS own
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY(%(relied_on)s)
"""
_QUERIES = {
    "relation": _RELATIONS,
    "column": _COLUMNS,
    "constraint": _CONSTRAINTS,
    "index": _INDEXES,
    "sequence": _SEQUENCES,
    "function": _FUNCTIONS,
    "trigger": _TRIGGERS,
    "rule": _RULES,
    "policy": _POLICIES,
    "builtin": _BUILTINS,
}
_RELIED_ON = (
    # By the rules
    *("sha256", "convert_to", "encode", "current_setting", "set_config", "clock_timestamp", "statement_timestamp"),
    *("array_position", "array_ndims", "array_lower", "cardinality", "uuid_send", "get_byte", "octet_length", "length"),
    *("chr", "ltrim", "split_part", "starts_with", "quote_ident", "extract", "jsonb_build_object", "texteq", "textne"),
    *("pg_current_xact_id", "pg_trigger_depth", "has_function_privilege", "gen_random_uuid"),
    # By the sealer and the verifier
    *("pg_current_snapshot", "pg_snapshot_xmin", "pg_snapshot_xmax", "pg_control_system", "pg_try_advisory_xact_lock"),
    *("xid8lt", "xid8le", "xid8gt", "xid8ge", "xid8eq", "xid8ne", "uuid_eq", "int8eq"),
)


def read(cursor: Any, place: Place) -> dict[Key, Facts]:
    """Describe every object of this app, and those of others that stand on its tables.

    Args:
        cursor: of a session inside `plainly`.
        place: what that gave.
    """
    found: dict[Key, Facts] = {}
    parameters = {
        "tables": [oid for oid, _ in place.tables.values()],
        "schema": place.schema,
        "relied_on": list(_RELIED_ON),
    }
    for kind, query in _QUERIES.items():
        cursor.execute(query, parameters)
        names = [column.name for column in cursor.description]
        for row in cursor.fetchall():
            facts = dict(zip(names, row, strict=True))
            found[kind, facts.pop("table"), facts.pop("name")] = facts
            if kind == "function":
                # Hashed here: what the server says of hashes is not to be trusted.
                facts["body"] = hashlib.sha256(facts["body"].encode()).hexdigest()
                facts["config"] = sorted(facts["config"])
    return found
