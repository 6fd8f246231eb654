-- Keeps the pause queue and the tasks together, whatever SQL moves a task. task_log_v1.sql calls it for each task that
-- enters or leaves `paused`, and logs what it returns. A task that enters without an entry gets one, which is held. The
-- entry's reason and plan are returned for the log, because the entry is removed when the task leaves. When work that
-- waited for an event goes on, a note in the log says what came of the wait. Work that awaited an approval does not go
-- on after its deadline.
--
-- Only the tables' owner may call it, as task_log_v1.sql does, whose Note [Own schema] applies here too. Without
-- sequential scans: a plan that was made while the table was empty stays with the session, and would read the whole
-- table for each row.

-- forwards
CREATE FUNCTION audit_task_queue_v1(moved record, table_schema text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    own_schema CONSTANT text :=
        set_config('search_path', 'pg_catalog, ' || quote_ident(table_schema) || ', pg_temp', true);
    gone record;
BEGIN
    IF moved.status = 'paused' THEN
        INSERT INTO audit_pause_queue (task_id, work_plan, paused_by, held, priority, actor)
        VALUES (moved.id, moved.work_plan, moved.actor, true, moved.priority, moved.actor)
        ON CONFLICT (task_id) DO NOTHING;
        RETURN (SELECT pg_catalog.jsonb_build_object(
                'reason', entry.reason, 'note', entry.note, 'event', entry.event, 'resume_after', entry.resume_after,
                'held', entry.held, 'priority', entry.priority, 'work_plan', entry.work_plan)
            FROM audit_pause_queue AS entry WHERE entry.task_id = moved.id);
    END IF;
    DELETE FROM audit_pause_queue WHERE task_id = moved.id RETURNING reason, event, resume_after INTO gone;
    IF moved.status <> 'approved' THEN
        RETURN NULL;
    END IF;
    IF gone.reason = 'awaiting_approval' AND gone.resume_after <= statement_timestamp() THEN
        RAISE EXCEPTION 'audit_task %: the time to approve it ended at %', moved.id, gone.resume_after
            USING ERRCODE = 'restrict_violation', SCHEMA = table_schema, TABLE = 'audit_task',
                HINT = 'Reject it, and request the work anew with this one as parent.';
    END IF;
    IF gone.event <> '' THEN
        INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary, detail)
        SELECT moved.id, 'note', moved.revision, moved.actor, moved.attempt, 'event', gone.event,
            pg_catalog.jsonb_build_object(
                'event', gone.event, 'emitted', found.id IS NOT NULL,
                'timed_out', found.id IS NULL AND coalesce(gone.resume_after <= statement_timestamp(), false),
                'payload', found.payload, 'emitted_at', found.emitted_at, 'emitted_by', found.emitted_by)
        FROM (VALUES (gone.event)) AS awaited (name) LEFT JOIN audit_event AS found ON found.name = awaited.name;
    END IF;
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_queue_v1(record, text) FROM PUBLIC

-- backwards
DROP FUNCTION audit_task_queue_v1(record, text)
