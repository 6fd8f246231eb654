-- Protects what was approved: once a task has left `pending`, its plan never changes. What remains of the plan after a
-- pause or a checkpoint is the work plan. ENABLE ALWAYS. The trigger is on the column, so that statements which leave
-- the plan alone do not read a plan of megabytes. It compares texts, because 12.50 is another plan than 12.5.

-- forwards
CREATE FUNCTION audit_task_plan_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NEW.plan::text IS DISTINCT FROM OLD.plan::text THEN
        RAISE EXCEPTION 'audit_task %: an approved plan never changes (status %)', OLD.id, OLD.status
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'Put what remains of it into work_plan, or request a new task with this one as parent.';
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_plan_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_20_plan BEFORE UPDATE OF plan ON audit_task
    FOR EACH ROW WHEN (OLD.status <> 'pending') EXECUTE FUNCTION audit_task_plan_v1()
-- next
ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_20_plan

-- backwards
DROP TRIGGER audit_task_20_plan ON audit_task
-- next
DROP FUNCTION audit_task_plan_v1()
