-- Writes the transition row of every status change, whole, in the statement that makes it. SECURITY DEFINER, so that a
-- role needs no right on the log to be logged; ordinary, so that a replica keeps the log of its source.
--
-- Once a statement: a trigger for each row would start an INSERT for every row (measured: 2.2 times the cost of inserting
-- many tasks). Where a task came from stands in status_was, which task_write_v1.sql has just written. A pause tells the
-- reason and the plan of its entry, which leaves when the work goes on; an approval tells which plan was approved. Without
-- sequential scans, as task_queue_v1.sql says.
--
-- Note [Own schema]
--     The table beside this one is the one in the same schema, whatever the caller's search_path says and whatever
--     temporary table bears its name. Naming it with EXECUTE format('%I…') would plan each statement anew. Instead
--     the search_path, pinned for the function, is widened to the trigger's own schema, with pg_temp last; leaving
--     the function restores the caller's. Nobody's function or operator can slip in: operators compare values of
--     one type of pg_catalog, which is searched first, and functions are qualified.

-- forwards
CREATE FUNCTION audit_task_log_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    INSERT INTO audit_executionlog
        (task_id, at, kind, from_status, to_status, revision, actor, db_role, attempt, row_version, xid, detail)
    SELECT moved.id, moved.status_since, 'transition', moved.status_was, moved.status, moved.revision, moved.actor,
        session_user, moved.attempt, 1, pg_catalog.pg_current_xact_id(),
        CASE
            WHEN moved.status = 'paused' THEN (
                SELECT pg_catalog.jsonb_build_object(
                    'reason', entry.reason, 'note', entry.note, 'event', entry.event,
                    'resume_after', entry.resume_after, 'held', entry.held, 'priority', entry.priority,
                    'work_plan', entry.work_plan)
                FROM audit_pause_queue AS entry WHERE entry.task_id = moved.id)
            WHEN moved.status = 'approved' AND coalesce(moved.status_was, 'pending') = 'pending' THEN
                pg_catalog.jsonb_build_object('plan_sha256', pg_catalog.encode(
                    pg_catalog.sha256(pg_catalog.convert_to(moved.plan::text, 'UTF8')), 'hex'))
        END
    FROM changed AS moved
    WHERE moved.status IS DISTINCT FROM moved.status_was;
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
