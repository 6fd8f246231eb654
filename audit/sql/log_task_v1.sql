-- Writes the transition row of every status change, in the statement that makes it. SECURITY DEFINER, so that a role
-- needs no right on the log to be logged; ordinary, so that a replica keeps the log of its source.
--
-- Note [Own schema]
--     The table beside this one is the one in the same schema, whatever the caller's search_path says and whatever
--     temporary table bears its name. Naming it with EXECUTE format('%I…') would plan the statement anew for each row.
--     Instead the search_path, pinned for the function, is narrowed to the trigger's own schema with pg_temp last,
--     for statements that call no function and no operator which is not qualified; leaving the function restores
--     the caller's.

-- forwards
CREATE FUNCTION audit_task_log_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    before text;
    told jsonb;
    entry record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.status = OLD.status THEN
            RETURN NULL;
        END IF;
        before := OLD.status;
    END IF;
    PERFORM set_config('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    IF NEW.status OPERATOR(pg_catalog.=) 'paused' THEN
        -- The entry leaves when the work goes on; why it waited stays here.
        SELECT reason, note, resume_after, held, priority, work_plan INTO entry FROM audit_pause_queue
            WHERE task_id OPERATOR(pg_catalog.=) NEW.id;
        told := pg_catalog.jsonb_build_object(
            'reason', entry.reason, 'note', entry.note, 'resume_after', entry.resume_after, 'held', entry.held,
            'priority', entry.priority, 'work_plan', entry.work_plan);
    END IF;
    INSERT INTO audit_executionlog (task_id, kind, from_status, to_status, revision, actor, attempt, detail)
    VALUES (NEW.id, 'transition', before, NEW.status, NEW.revision, NEW.actor, NEW.attempt, told);
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_log_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_50_log AFTER INSERT OR UPDATE ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_task_log_v1()

-- backwards
DROP TRIGGER audit_task_50_log ON audit_task
-- next
DROP FUNCTION audit_task_log_v1()
