-- Stamps a row of the log with what the database saw: the moment and the session user. Refuses a forged transition:
-- such a row must continue the log of its task and say what the task is now, which only the row written in the
-- statement that changes the status can do. Ordinary, because it looks at other tables: an ALWAYS rule would stop the
-- initial copy of a logical replica.

-- forwards
CREATE FUNCTION audit_log_stamp_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    last_status text;
    task_status text;
    task_revision integer;
BEGIN
    NEW.at := clock_timestamp();
    NEW.db_role := session_user;
    IF NEW.actor = '' THEN
        NEW.actor := 'db:' || session_user;
    END IF;
    IF NEW.kind = 'transition' THEN
        -- The tables beside this one, found as Note [Own schema] in log_task_v1.sql says.
        PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
        SELECT to_status INTO last_status FROM audit_executionlog
            WHERE task_id OPERATOR(pg_catalog.=) NEW.task_id AND kind OPERATOR(pg_catalog.=) 'transition'
            ORDER BY revision DESC LIMIT 1;
        SELECT status, revision INTO task_status, task_revision FROM audit_task
            WHERE id OPERATOR(pg_catalog.=) NEW.task_id;
        PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
        IF NEW.from_status IS DISTINCT FROM last_status OR NEW.to_status IS DISTINCT FROM task_status
            OR NEW.revision IS DISTINCT FROM task_revision
        THEN
            RAISE EXCEPTION 'audit_executionlog: task % made no step from % to %',
                NEW.task_id, coalesce(NEW.from_status, 'nothing'), NEW.to_status
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Transitions are written by the database when the status changes; write a note or a step.';
        END IF;
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_log_stamp_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_executionlog_20_stamp BEFORE INSERT ON audit_executionlog
    FOR EACH ROW EXECUTE FUNCTION audit_log_stamp_v1()

-- backwards
DROP TRIGGER audit_executionlog_20_stamp ON audit_executionlog
-- next
DROP FUNCTION audit_log_stamp_v1()
