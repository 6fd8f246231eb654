-- Keeps the pause queue and the tasks together, whatever SQL moves a task. Leaving `paused` removes the entry. Entering
-- `paused` without an entry makes one, which is held. When work that waited for an event goes on, a note in the log
-- says what came of the wait. Work that awaited an approval does not go on after its deadline.
--
-- Fires for each row, so before the statement's log trigger, which needs the entry's reason. SECURITY DEFINER and
-- ordinary, as task_log_v1.sql, whose Note [Own schema] applies here too. Without sequential scans: a plan that was
-- made while the table was empty stays with the session, and would read the whole table for each row.

-- forwards
CREATE FUNCTION audit_task_queue_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    gone record;
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    IF NEW.status = 'paused' THEN
        INSERT INTO audit_pause_queue (task_id, work_plan, paused_by, held, priority, actor)
        VALUES (NEW.id, NEW.work_plan, NEW.actor, true, NEW.priority, NEW.actor)
        ON CONFLICT (task_id) DO NOTHING;
    ELSE
        DELETE FROM audit_pause_queue WHERE task_id = NEW.id RETURNING reason, event, resume_after INTO gone;
        IF NEW.status <> 'approved' THEN
            RETURN NULL;
        END IF;
        IF gone.reason = 'awaiting_approval' AND gone.resume_after <= statement_timestamp() THEN
            RAISE EXCEPTION 'audit_task %: the time to approve it ended at %', NEW.id, gone.resume_after
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Reject it, and request the work anew with this one as parent.';
        END IF;
        IF gone.event <> '' THEN
            INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary, detail)
            SELECT NEW.id, 'note', NEW.revision, NEW.actor, NEW.attempt, 'event', gone.event, pg_catalog.jsonb_build_object(
                'event', gone.event, 'emitted', found.id IS NOT NULL,
                'timed_out', found.id IS NULL AND coalesce(gone.resume_after <= statement_timestamp(), false),
                'payload', found.payload, 'emitted_at', found.emitted_at, 'emitted_by', found.emitted_by)
            FROM (VALUES (gone.event)) AS awaited (name) LEFT JOIN audit_event AS found ON found.name = awaited.name;
        END IF;
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
