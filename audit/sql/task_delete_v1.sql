-- Refuses every DELETE of a task, in every status. ENABLE ALWAYS.

-- forwards
CREATE FUNCTION audit_task_delete_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION 'audit_task %: a task is never deleted (status %)', OLD.id, OLD.status
        USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'Reject a task that should not run; a finished one stays as it is.';
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_delete_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_10_delete BEFORE DELETE ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_task_delete_v1()
-- next
ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_10_delete

-- backwards
DROP TRIGGER audit_task_10_delete ON audit_task
-- next
DROP FUNCTION audit_task_delete_v1()
