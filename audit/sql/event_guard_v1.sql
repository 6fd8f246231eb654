-- Keeps events append-only: the first emit of a name stays. ENABLE ALWAYS.

-- forwards
CREATE FUNCTION audit_event_guard_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION 'audit_event %: an event takes no % (name %)', OLD.id, TG_OP, OLD.name
        USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'The first emit of a name is kept; emit another name.';
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_event_guard_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_event_10_guard BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_event_guard_v1()
-- next
ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_10_guard
-- next
CREATE TRIGGER audit_event_10_no_truncate BEFORE TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_10_no_truncate

-- backwards
DROP TRIGGER audit_event_10_no_truncate ON audit_event
-- next
DROP TRIGGER audit_event_10_guard ON audit_event
-- next
DROP FUNCTION audit_event_guard_v1()
