-- Writes the transition row of every status change, in the statement that makes it. SECURITY DEFINER, so that a role
-- needs no right on the log to be logged; ordinary, so that a replica keeps the log of its source.
--
-- Once a statement: a trigger for each row would start an INSERT, with all its CHECKs, for every row (measured: 2.2
-- times the cost of inserting many tasks). Where a task came from is what the log said last of earlier revisions, so
-- that the log is one chain whatever happens; the old rows, and a join whose cached plan would be wrong for another
-- number of rows, are not needed. A row that somebody writes beside it, in the same statement, breaks the chain.
--
-- Note [Own schema]
--     The table beside this one is the one in the same schema, whatever the caller's search_path says and whatever
--     temporary table bears its name. Naming it with EXECUTE format('%I…') would plan each statement anew. Instead
--     the search_path, pinned for the function, is widened to the trigger's own schema, with pg_temp last; leaving
--     the function restores the caller's. Nobody's function or operator can slip in: operators compare values of
--     one type of pg_catalog, which is searched first, and functions are qualified.

-- forwards
CREATE FUNCTION audit_task_log_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    INSERT INTO audit_executionlog (task_id, kind, from_status, to_status, revision, actor, attempt, detail)
    SELECT moved.id, 'transition', moved.last_status, moved.status, moved.revision, moved.actor, moved.attempt,
        -- The entry leaves when the work goes on; why it waited stays here.
        CASE WHEN moved.status = 'paused' THEN (
            SELECT pg_catalog.jsonb_build_object(
                'reason', entry.reason, 'note', entry.note, 'resume_after', entry.resume_after, 'held', entry.held,
                'priority', entry.priority, 'work_plan', entry.work_plan)
            FROM audit_pause_queue AS entry WHERE entry.task_id = moved.id
        ) END
    FROM (
        SELECT changed.id, changed.status, changed.revision, changed.actor, changed.attempt, (
            SELECT logged.to_status FROM audit_executionlog AS logged
            WHERE logged.task_id = changed.id AND logged.kind = 'transition' AND logged.revision < changed.revision
            ORDER BY logged.revision DESC LIMIT 1
        ) AS last_status
        FROM changed
    ) AS moved
    WHERE moved.status IS DISTINCT FROM moved.last_status;
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_log_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_50_log_insert AFTER INSERT ON audit_task REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION audit_task_log_v1()
-- next
CREATE TRIGGER audit_task_50_log_update AFTER UPDATE ON audit_task REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION audit_task_log_v1()

-- backwards
DROP TRIGGER audit_task_50_log_update ON audit_task
-- next
DROP TRIGGER audit_task_50_log_insert ON audit_task
-- next
DROP FUNCTION audit_task_log_v1()
