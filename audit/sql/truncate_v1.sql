-- Refuses TRUNCATE of the audit tables, also by CASCADE from another table. ENABLE ALWAYS.

-- forwards
CREATE FUNCTION audit_truncate_guard_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION '%: an audit table is never truncated', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'In tests with manage.py test: TEST_RUNNER = "audit.testing.runner.AuditDiscoverRunner". '
                'With pytest: the plugin audit.testing.plugin. In any other database, history stays.';
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_truncate_guard_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_10_no_truncate BEFORE TRUNCATE ON audit_task
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_10_no_truncate
-- next
CREATE TRIGGER audit_executionlog_10_no_truncate BEFORE TRUNCATE ON audit_executionlog
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_executionlog ENABLE ALWAYS TRIGGER audit_executionlog_10_no_truncate
-- next
CREATE TRIGGER audit_pause_queue_10_no_truncate BEFORE TRUNCATE ON audit_pause_queue
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_pause_queue ENABLE ALWAYS TRIGGER audit_pause_queue_10_no_truncate

-- backwards
DROP TRIGGER audit_pause_queue_10_no_truncate ON audit_pause_queue
-- next
DROP TRIGGER audit_executionlog_10_no_truncate ON audit_executionlog
-- next
DROP TRIGGER audit_task_10_no_truncate ON audit_task
-- next
DROP FUNCTION audit_truncate_guard_v1()
