-- Refuses what would rewrite a task: any change of a finished one, a step the status rules do not have, a change of
-- who asked and when, a lowered revision, every DELETE, and TRUNCATE. ENABLE ALWAYS: also for replica sessions.
-- Looks at its own row alone, so that a logical replica's initial copy passes.

-- forwards
CREATE FUNCTION audit_task_guard_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'audit_task %: a task is never deleted (status %)', OLD.id, OLD.status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Reject a task that should not run; a finished one stays as it is.';
    END IF;
    IF OLD.status IN ('completed', 'failed', 'rejected') THEN
        RAISE EXCEPTION 'audit_task %: a finished task never changes (status %)', OLD.id, OLD.status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Add a note or a suggestion to its execution log, or request a new task with this one as parent.';
    END IF;
    IF NEW.status <> OLD.status AND NOT (CASE OLD.status
        WHEN 'pending' THEN NEW.status IN ('approved', 'rejected')
        WHEN 'approved' THEN NEW.status IN ('executing', 'paused', 'rejected')
        WHEN 'executing' THEN NEW.status IN ('completed', 'failed', 'paused', 'approved')
        WHEN 'paused' THEN NEW.status IN ('approved', 'rejected', 'failed')
        ELSE false
    END) THEN
        RAISE EXCEPTION 'audit_task %: a task that is % cannot become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Steps: pending to approved, rejected; approved to executing, paused, rejected; '
                    'executing to completed, failed, paused, approved; paused to approved, rejected, failed.';
    END IF;
    IF NEW.id <> OLD.id OR NEW.created_at <> OLD.created_at OR NEW.recorded_at <> OLD.recorded_at
        OR NEW.requested_by <> OLD.requested_by OR NEW.origin::text IS DISTINCT FROM OLD.origin::text
    THEN
        RAISE EXCEPTION 'audit_task %: id, created_at, recorded_at, requested_by and origin never change (status %)',
            OLD.id, OLD.status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Request a new task with this one as parent.';
    END IF;
    IF NEW.revision < OLD.revision THEN
        RAISE EXCEPTION 'audit_task %: revision cannot go back from % to % (status %)',
            OLD.id, OLD.revision, NEW.revision, OLD.status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'The row changed since it was read; read it again and decide again.';
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_guard_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_10_guard BEFORE UPDATE OR DELETE ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_task_guard_v1()
-- next
ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_10_guard

-- backwards
DROP TRIGGER audit_task_10_guard ON audit_task
-- next
DROP FUNCTION audit_task_guard_v1()
