-- Refuses a forged transition: such a row must continue the log of its task and say what the task is now, and once the
-- status change is logged nothing more can. So only the row written in the statement that changes the status passes,
-- whoever writes it. Ordinary, because it looks at other tables: an ALWAYS rule would stop the initial copy of a
-- logical replica. Scalar subqueries, because a join's cached plan would be wrong for another number of rows.
-- SECURITY DEFINER, to see the whole log; Note [Own schema] of log_task_v1.sql holds here.

-- forwards
CREATE FUNCTION audit_log_chain_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    forged record;
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    SELECT written.task_id, written.from_status, written.to_status INTO forged
    FROM written
    WHERE written.kind = 'transition' AND (
        written.from_status IS DISTINCT FROM (
            SELECT logged.to_status FROM audit_executionlog AS logged
            WHERE logged.task_id = written.task_id AND logged.kind = 'transition' AND logged.id <> written.id
            ORDER BY logged.revision DESC, logged.id DESC LIMIT 1)
        OR (SELECT task.status = written.to_status AND task.revision = written.revision
            FROM audit_task AS task WHERE task.id = written.task_id) IS NOT TRUE)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'audit_executionlog: task % made no step from % to %',
            forged.task_id, coalesce(forged.from_status, 'nothing'), forged.to_status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Transitions are written by the database when the status changes; write a note or a step.';
    END IF;
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_log_chain_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_executionlog_50_chain AFTER INSERT ON audit_executionlog REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_chain_v1()

-- backwards
DROP TRIGGER audit_executionlog_50_chain ON audit_executionlog
-- next
DROP FUNCTION audit_log_chain_v1()
