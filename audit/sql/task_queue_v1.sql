-- Keeps the pause queue in step with the tasks, whatever SQL moves them: leaving `paused` removes the entry, entering it
-- without one makes one that is held. For each row, so before the statement's log trigger, which tells the entry's
-- reason. SECURITY DEFINER and ordinary as task_log_v1.sql, whose Note [Own schema] holds here. Without sequential scans,
-- because a plan that was made while the table was empty is kept for the session, and would read all of it for each row.

-- forwards
CREATE FUNCTION audit_task_queue_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    IF NEW.status = 'paused' THEN
        INSERT INTO audit_pause_queue (task_id, work_plan, paused_by, held, priority, actor)
        VALUES (NEW.id, NEW.work_plan, NEW.actor, true, NEW.priority, NEW.actor)
        ON CONFLICT (task_id) DO NOTHING;
    ELSE
        DELETE FROM audit_pause_queue WHERE task_id = NEW.id;
    END IF;
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_queue_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_40_queue_insert AFTER INSERT ON audit_task
    FOR EACH ROW WHEN (NEW.status = 'paused') EXECUTE FUNCTION audit_task_queue_v1()
-- next
CREATE TRIGGER audit_task_40_queue_update AFTER UPDATE ON audit_task
    FOR EACH ROW WHEN (NEW.status <> OLD.status AND (NEW.status = 'paused' OR OLD.status = 'paused'))
    EXECUTE FUNCTION audit_task_queue_v1()

-- backwards
DROP TRIGGER audit_task_40_queue_update ON audit_task
-- next
DROP TRIGGER audit_task_40_queue_insert ON audit_task
-- next
DROP FUNCTION audit_task_queue_v1()
