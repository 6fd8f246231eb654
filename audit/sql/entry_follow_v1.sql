-- Refuses a pause entry without a paused task, and a paused task without its entry. Logs when an entry is held,
-- deferred or otherwise changed; a claim of it is not history. SECURITY DEFINER and ordinary, as task_log_v1.sql, whose
-- Note [Own schema] applies here too. Without sequential scans, as task_queue_v1.sql.
--
-- Note [Stale snapshots]
--     A REPEATABLE READ or SERIALIZABLE session sees the task as it was when its snapshot was taken. So where the
--     answer decides something, the task is locked and not only read. If another session has moved it since, the lock
--     fails to serialize. So no entry is left behind for a task that is not paused any more.

-- forwards
CREATE FUNCTION audit_entry_follow_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    concerned uuid;
    task_status text;
    change text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        change := CASE
            WHEN NEW.held AND NOT OLD.held THEN 'hold'
            WHEN NEW.resume_after IS DISTINCT FROM OLD.resume_after OR NEW.held <> OLD.held THEN 'defer'
            WHEN NEW.priority <> OLD.priority OR NEW.reason <> OLD.reason OR NEW.note <> OLD.note
                OR NEW.work_plan::text IS DISTINCT FROM OLD.work_plan::text THEN 'change-pause'
        END;
        IF change IS NOT NULL THEN
            PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
            INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, detail)
            SELECT task.id, 'note', task.revision, NEW.actor, task.attempt, change, pg_catalog.jsonb_build_object(
                'reason', NEW.reason, 'note', NEW.note, 'event', NEW.event, 'resume_after', NEW.resume_after,
                'held', NEW.held, 'priority', NEW.priority, 'work_plan', NEW.work_plan)
            FROM audit_task AS task WHERE task.id = NEW.task_id;
        END IF;
        RETURN NULL;
    END IF;
    concerned := CASE TG_OP WHEN 'INSERT' THEN NEW.task_id ELSE OLD.task_id END;
    PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    SELECT status INTO task_status FROM audit_task WHERE id = concerned FOR NO KEY UPDATE;
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    IF TG_OP = 'INSERT' AND task_status IS DISTINCT FROM 'paused' THEN
        RAISE EXCEPTION 'audit_pause_queue: task % is %, and only a paused task has an entry', concerned, task_status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Pause the task; the entry comes with it.';
    ELSIF TG_OP = 'DELETE' AND task_status = 'paused' THEN
        RAISE EXCEPTION 'audit_pause_queue %: task % is paused, and its entry says how it goes on', OLD.id, concerned
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Resume or cancel it; the entry leaves with the pause.';
    END IF;
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_entry_follow_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_pause_queue_50_follow AFTER INSERT OR UPDATE OR DELETE ON audit_pause_queue
    FOR EACH ROW EXECUTE FUNCTION audit_entry_follow_v1()

-- backwards
DROP TRIGGER audit_pause_queue_50_follow ON audit_pause_queue
-- next
DROP FUNCTION audit_entry_follow_v1()
