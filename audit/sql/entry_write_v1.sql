-- Decides which changes a pause entry may undergo, and stamps the row. Refuses a change of who paused the task and
-- when, a lower revision, and texts without an end. Stamps actor, revision and due time, as task_write_v1.sql does. CHECKs say what a row
-- must be. ENABLE ALWAYS: in replica sessions it refuses and stamps nothing. It looks only at its own row.

-- forwards
CREATE FUNCTION audit_entry_write_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    named boolean;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.id <> OLD.id OR NEW.task_id <> OLD.task_id OR NEW.paused_at <> OLD.paused_at
            OR NEW.paused_by <> OLD.paused_by OR NEW.event <> OLD.event OR NEW.revision < OLD.revision
        THEN
            RAISE EXCEPTION 'audit_pause_queue %: id, task_id, paused_at, paused_by and event never change, and '
                'revision never goes back (task %)', OLD.id, OLD.task_id
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Resume or cancel the entry and pause the task anew.';
        END IF;
    END IF;
    -- An event has 200 characters at most, and is looked up by an index.
    IF octet_length(NEW.note) > 65536 OR octet_length(NEW.event) > 800
        OR greatest(octet_length(NEW.paused_by), octet_length(NEW.claimed_by),
            octet_length(ltrim(NEW.actor, chr(1)))) > 4096
    THEN
        RAISE EXCEPTION 'audit_pause_queue (task %): a text is too long: note has at most 65536 bytes, event 800, '
            'a name 4096 (audit_pause_queue_texts_bounded)', NEW.task_id
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                CONSTRAINT = 'audit_pause_queue_texts_bounded';
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        -- The statement's moment, so that a verb that asks for it in its WHERE is never refused here.
        IF OLD.reason = 'awaiting_approval' AND OLD.resume_after <= statement_timestamp()
            AND (NEW.reason <> OLD.reason OR NEW.resume_after IS DISTINCT FROM OLD.resume_after)
        THEN
            RAISE EXCEPTION 'audit_pause_queue %: the time to approve task % ended at %',
                OLD.id, OLD.task_id, OLD.resume_after
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Cancel it, and request the work anew with this one as parent.';
        END IF;
        named := (starts_with(NEW.actor, chr(1)) AND NEW.revision = OLD.revision + 1) IS TRUE;
        IF named THEN
            NEW.actor := coalesce(nullif(ltrim(NEW.actor, chr(1)), ''), 'db:' || session_user);
        ELSE
            NEW.revision := OLD.revision + 1;
            NEW.actor := 'db:' || session_user;
        END IF;
    ELSE
        NEW.revision := 1;
        -- Raw SQL, which names no actor, pauses under its role, whatever name it writes there.
        IF coalesce(ltrim(NEW.actor, chr(1)), '') = '' THEN
            NEW.actor := 'db:' || session_user;
            NEW.paused_by := NEW.actor;
        ELSE
            NEW.actor := ltrim(NEW.actor, chr(1));
            NEW.paused_by := coalesce(nullif(NEW.paused_by, ''), NEW.actor);
        END IF;
    END IF;
    NEW.due_at := coalesce(NEW.resume_after, NEW.paused_at);
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_entry_write_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_pause_queue_10_write BEFORE INSERT OR UPDATE ON audit_pause_queue
    FOR EACH ROW EXECUTE FUNCTION audit_entry_write_v1()
-- next
ALTER TABLE audit_pause_queue ENABLE ALWAYS TRIGGER audit_pause_queue_10_write

-- backwards
DROP TRIGGER audit_pause_queue_10_write ON audit_pause_queue
-- next
DROP FUNCTION audit_entry_write_v1()
