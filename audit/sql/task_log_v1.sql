-- Writes the transition row of every status change, in the statement that makes the change. SECURITY DEFINER, so that a
-- role needs no right on the log. Ordinary, so that a replica keeps the log of its source.
--
-- Fires once for each statement. A trigger for each row would start an INSERT for every row (measured: inserting many
-- tasks then costs 2.2 times as much). The previous status is in status_was, which task_write_v1.sql has just written.
-- The row of a pause or its end holds what task_queue_v1.sql returns, which keeps the pause queue. That is a function
-- called where it is needed, and no trigger for each row, whose condition every statement would prepare again. The row
-- of an approval holds the hash of the approved plan.
--
-- Note [Own schema]
--     The other tables are those in the schema of this trigger's table, whatever the caller's search_path is and
--     whatever temporary table has the same name. EXECUTE format('%I…') would plan each statement again. Instead the
--     function's own, pinned search_path gets the trigger's schema in addition, with pg_temp last. The caller's
--     search_path comes back when the function ends. No foreign function or operator can slip in: operators compare
--     values of types of pg_catalog, which is searched first, and functions are qualified.

-- forwards
CREATE FUNCTION audit_task_log_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    -- An assignment: PERFORM would run a query.
    own_schema CONSTANT text :=
        set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
BEGIN
    INSERT INTO audit_executionlog
        (task_id, at, kind, from_status, to_status, revision, actor, db_role, attempt, row_version, xid, detail)
    SELECT moved.id, moved.status_since, 'transition', moved.status_was, moved.status, moved.revision, moved.actor,
        session_user, moved.attempt, 1, pg_catalog.pg_current_xact_id(),
        CASE
            WHEN 'paused' IN (moved.status, moved.status_was) THEN audit_task_queue_v1(moved, TG_TABLE_SCHEMA)
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
