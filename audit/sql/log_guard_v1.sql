-- Refuses every UPDATE and DELETE of the execution log. ENABLE ALWAYS.

-- forwards
CREATE FUNCTION audit_log_guard_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION 'audit_executionlog %: the log takes no % (task %)', OLD.id, TG_OP, OLD.task_id
        USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'Write a further row that corrects it.';
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_log_guard_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_executionlog_10_guard BEFORE UPDATE OR DELETE ON audit_executionlog
    FOR EACH ROW EXECUTE FUNCTION audit_log_guard_v1()
-- next
ALTER TABLE audit_executionlog ENABLE ALWAYS TRIGGER audit_executionlog_10_guard

-- backwards
DROP TRIGGER audit_executionlog_10_guard ON audit_executionlog
-- next
DROP FUNCTION audit_log_guard_v1()
