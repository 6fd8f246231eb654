-- Stamps a pause entry: due time, revision and actor, as stamp_task_v2.sql does for tasks. Ordinary. What never changes is
-- kept by guard_entry_v1.sql.

-- forwards
CREATE FUNCTION audit_entry_stamp_v3() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.revision := 1;
        -- Raw SQL, which names no actor, pauses under its role, whatever name it writes there.
        IF coalesce(ltrim(NEW.actor, chr(1)), '') = '' THEN
            NEW.actor := 'db:' || session_user;
            NEW.paused_by := NEW.actor;
        ELSE
            NEW.actor := ltrim(NEW.actor, chr(1));
            NEW.paused_by := coalesce(nullif(NEW.paused_by, ''), NEW.actor);
        END IF;
    ELSE
        IF NEW.revision = OLD.revision + 1 AND starts_with(NEW.actor, chr(1)) THEN
            NEW.actor := coalesce(nullif(ltrim(NEW.actor, chr(1)), ''), 'db:' || session_user);
        ELSE
            NEW.revision := OLD.revision + 1;
            NEW.actor := 'db:' || session_user;
        END IF;
    END IF;
    NEW.due_at := coalesce(NEW.resume_after, NEW.paused_at);
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_entry_stamp_v3() FROM PUBLIC
-- next
CREATE TRIGGER audit_pause_queue_20_stamp BEFORE INSERT OR UPDATE ON audit_pause_queue
    FOR EACH ROW EXECUTE FUNCTION audit_entry_stamp_v3()

-- backwards
DROP TRIGGER audit_pause_queue_20_stamp ON audit_pause_queue
-- next
DROP FUNCTION audit_entry_stamp_v3()
