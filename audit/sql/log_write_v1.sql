-- Decides what may enter the log, and stamps the row. Fires before every INSERT except those of task_log_v1.sql, which
-- writes whole rows. Steps, notes and suggestions of an existing task are stamped with the moment and the session user.
-- A transition is refused: only the statement that changes the status may write one.
--
-- The WHEN lets a trigger's INSERT pass if the trigger's owner may call the log function. That is task_log_v1.sql,
-- which is SECURITY DEFINER, and otherwise only the owner of the tables. If the owner forges a transition in this way,
-- the verifier finds it, because it replays the steps of each task.
--
-- ENABLE ALWAYS: in a replica session the row is checked, but neither stamped nor looked up, so that a replica's
-- initial copy passes. A task is never deleted and its id never changes. So one lookup replaces a foreign key, and it
-- needs no lock: a session that does not see the task yet is refused. SECURITY DEFINER for this lookup, so that a role
-- needs no right on tasks to write a note. The WHEN is evaluated before, with the rights of the session.

-- forwards
CREATE FUNCTION audit_log_write_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    broken text;
    known CONSTANT text[] := ARRAY['pending', 'approved', 'executing', 'paused', 'completed', 'failed', 'rejected'];
BEGIN
    IF current_setting('session_replication_role') <> 'replica' THEN
        IF NEW.kind = 'transition' THEN
            RAISE EXCEPTION 'audit_executionlog: task % made no step from % to %',
                NEW.task_id, coalesce(NEW.from_status, 'nothing'), NEW.to_status
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Transitions are written by the database when the status changes; write a note or a step.';
        END IF;
        NEW.at := clock_timestamp();
        NEW.db_role := session_user;
        NEW.row_version := 1;
        NEW.xid := pg_current_xact_id();
        IF NEW.actor = '' THEN
            NEW.actor := 'db:' || session_user;
        END IF;
        PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
        IF NOT EXISTS (SELECT FROM audit_task AS task WHERE task.id = NEW.task_id) THEN
            RAISE EXCEPTION 'audit_executionlog: there is no task %', NEW.task_id
                USING ERRCODE = 'foreign_key_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Request the task first, and commit it.';
        END IF;
    END IF;
    broken := CASE
        WHEN NEW.kind NOT IN ('transition', 'step', 'note', 'suggestion') THEN 'kind_known|kind is none of the log'
        WHEN NEW.row_version <> 1 THEN 'row_version_known|row_version is not 1'
        WHEN NEW.duration_ms < 0 THEN 'duration_positive|duration_ms is below zero'
        WHEN NEW.at < '0001-01-02 00:00:00+00' OR NEW.at >= '9999-12-31 00:00:00+00'
            THEN 'moment_readable|at lies outside of the years 1 to 9999'
        WHEN octet_length(NEW.output_summary) > 65536
            OR greatest(octet_length(NEW.action), octet_length(NEW.actor), octet_length(NEW.db_role)) > 4096
            THEN 'texts_bounded|a text is too long: output_summary has at most 65536 bytes, a name 4096'
        WHEN NEW.detail = 'null'::jsonb THEN 'no_json_null|detail is the JSON null; store an SQL NULL'
        WHEN CASE WHEN NEW.kind = 'transition'
            THEN NEW.revision IS NULL OR NEW.to_status IS NULL OR NEW.to_status <> ALL (known)
                OR NEW.from_status <> ALL (known) OR NEW.from_status = NEW.to_status
            ELSE NEW.from_status IS NOT NULL OR NEW.to_status IS NOT NULL END
            THEN 'transition_whole|from_status, to_status and revision belong to a transition'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'audit_executionlog (task %): % (audit_executionlog_%)',
            NEW.task_id, split_part(broken, '|', 2), split_part(broken, '|', 1)
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                CONSTRAINT = 'audit_executionlog_' || split_part(broken, '|', 1);
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_log_write_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_executionlog_10_write BEFORE INSERT ON audit_executionlog FOR EACH ROW
    WHEN (NEW.kind <> 'transition' OR pg_trigger_depth() = 0
        OR NOT has_function_privilege('audit_task_log_v1()'::regprocedure, 'EXECUTE'))
    EXECUTE FUNCTION audit_log_write_v1()
-- next
ALTER TABLE audit_executionlog ENABLE ALWAYS TRIGGER audit_executionlog_10_write

-- backwards
DROP TRIGGER audit_executionlog_10_write ON audit_executionlog
-- next
DROP FUNCTION audit_log_write_v1()
