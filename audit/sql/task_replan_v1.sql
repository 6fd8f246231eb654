-- Logs each change of a plan that waits for approval, with the SHA-256 of both plans. SECURITY DEFINER, so that a role
-- needs no right on the log. Ordinary, as task_log_v1.sql, whose Note [Own schema] applies here too. The trigger is on
-- the column, so that other statements do not prepare its condition.

-- forwards
CREATE FUNCTION audit_task_replan_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);
    INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, detail)
    VALUES (NEW.id, 'note', NEW.revision, NEW.actor, NEW.attempt, 'change-plan', jsonb_build_object(
        'plan_sha256', encode(sha256(convert_to(NEW.plan::text, 'UTF8')), 'hex'),
        'plan_sha256_before', encode(sha256(convert_to(OLD.plan::text, 'UTF8')), 'hex')));
    RETURN NULL;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_replan_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_30_replan AFTER UPDATE OF plan ON audit_task
    FOR EACH ROW WHEN (OLD.status = 'pending' AND NEW.plan::text IS DISTINCT FROM OLD.plan::text)
    EXECUTE FUNCTION audit_task_replan_v1()

-- backwards
DROP TRIGGER audit_task_30_replan ON audit_task
-- next
DROP FUNCTION audit_task_replan_v1()
