-- Keeps the pause queue in step with the tasks, whatever SQL moves them: leaving `paused` removes the entry, entering it
-- without one makes one that is held. Runs before the log trigger, which tells the entry's reason. SECURITY DEFINER and
-- ordinary as log_task_v1.sql, whose Note [Own schema] holds here.

-- forwards
CREATE FUNCTION audit_task_queue_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NEW.status = 'paused' THEN
        IF TG_OP = 'UPDATE' AND OLD.status = 'paused' THEN
            RETURN NULL;
        END IF;
        PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
        INSERT INTO audit_pause_queue (task_id, work_plan, paused_by, held, priority, actor)
        VALUES (NEW.id, NEW.plan, NEW.actor, true, NEW.priority, NEW.actor)
        ON CONFLICT (task_id) DO NOTHING;
    ELSIF TG_OP = 'UPDATE' AND OLD.status = 'paused' THEN
        PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
        DELETE FROM audit_pause_queue WHERE task_id OPERATOR(pg_catalog.=) NEW.id;
    END IF;
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_queue_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_40_queue AFTER INSERT OR UPDATE ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_task_queue_v1()

-- backwards
DROP TRIGGER audit_task_40_queue ON audit_task
-- next
DROP FUNCTION audit_task_queue_v1()
