-- Refuses what would rewrite who paused a task and when: a change of id, task_id, paused_at or paused_by of a pause entry,
-- and a lowered revision. ENABLE ALWAYS: also for replica sessions. Looks at its own row alone, as guard_task_v1.sql.

-- forwards
CREATE FUNCTION audit_entry_guard_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NEW.id <> OLD.id OR NEW.task_id <> OLD.task_id OR NEW.paused_at <> OLD.paused_at
        OR NEW.paused_by <> OLD.paused_by OR NEW.revision < OLD.revision
    THEN
        RAISE EXCEPTION 'audit_pause_queue %: id, task_id, paused_at and paused_by never change, and revision '
            'never goes back (task %)', OLD.id, OLD.task_id
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Resume or cancel the entry and pause the task anew.';
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_entry_guard_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_pause_queue_10_guard BEFORE UPDATE ON audit_pause_queue
    FOR EACH ROW EXECUTE FUNCTION audit_entry_guard_v1()
-- next
ALTER TABLE audit_pause_queue ENABLE ALWAYS TRIGGER audit_pause_queue_10_guard

-- backwards
DROP TRIGGER audit_pause_queue_10_guard ON audit_pause_queue
-- next
DROP FUNCTION audit_entry_guard_v1()
