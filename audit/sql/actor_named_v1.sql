-- Shows the rules of tasks and pause entries whether an UPDATE names its actor. A trigger on a column fires only if the
-- statement's SET contains the column. This one marks the name with a control character, which the rule removes again.
-- Without it, raw SQL that raises the revision by one and names no actor would appear under the previous actor's name.
-- Ordinary: a replica session stamps nothing. Its one operator is named with its schema, so the function needs no
-- search_path of its own. Setting one would double its cost.

-- forwards
CREATE FUNCTION audit_actor_named_v1() RETURNS trigger
LANGUAGE plpgsql AS $function$
BEGIN
    NEW.actor := E'\x01' OPERATOR(pg_catalog.||) NEW.actor;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_actor_named_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_05_named BEFORE UPDATE OF actor ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_actor_named_v1()
-- next
CREATE TRIGGER audit_pause_queue_05_named BEFORE UPDATE OF actor ON audit_pause_queue
    FOR EACH ROW EXECUTE FUNCTION audit_actor_named_v1()

-- backwards
DROP TRIGGER audit_pause_queue_05_named ON audit_pause_queue
-- next
DROP TRIGGER audit_task_05_named ON audit_task
-- next
DROP FUNCTION audit_actor_named_v1()
