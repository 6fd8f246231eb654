-- Stamps a task: revision and actor, the moments of its story, and what belongs to a claim. An ordinary trigger, so
-- that a replica or a restore keeps the stamps of its source. clock_timestamp(), because now() stands still in a
-- transaction and every duration inside would be zero.

-- forwards
CREATE FUNCTION audit_task_stamp_v2() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    named boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.revision := 1;
        NEW.recorded_at := clock_timestamp();
        NEW.available_at := coalesce(NEW.available_at, NEW.created_at);
        NEW.actor := coalesce(nullif(ltrim(NEW.actor, chr(1)), ''), 'db:' || session_user);
    ELSE
        -- A statement of the application raises the revision by one and names who acts (named_actor_v1.sql marks it);
        -- any other appears under its role, also as who decided.
        named := (NEW.revision = OLD.revision + 1 AND starts_with(NEW.actor, chr(1))) IS TRUE;
        IF named THEN
            NEW.actor := coalesce(nullif(ltrim(NEW.actor, chr(1)), ''), 'db:' || session_user);
        ELSE
            NEW.revision := OLD.revision + 1;
            NEW.actor := 'db:' || session_user;
        END IF;
        IF NEW.status = OLD.status THEN
            RETURN NEW;
        END IF;
        IF OLD.status = 'pending' THEN
            NEW.decided_at := clock_timestamp();
            IF NOT named OR NEW.decided_by = OLD.decided_by THEN
                NEW.decided_by := NEW.actor;
            END IF;
        END IF;
        IF NEW.status = 'executing' THEN
            NEW.started_at := clock_timestamp();
        END IF;
        IF OLD.status = 'executing' THEN
            NEW.lease_expires_at := NULL;
            IF NEW.status IN ('approved', 'paused') THEN
                NEW.claim_token := NULL;
                NEW.claimed_by := '';
            END IF;
        END IF;
    END IF;
    IF NEW.status = 'executing' THEN
        -- Executing without a lease would never be found again: raw SQL gets one, which recovery can end.
        NEW.claim_token := coalesce(NEW.claim_token, gen_random_uuid());
        NEW.lease_expires_at := coalesce(NEW.lease_expires_at, clock_timestamp() + interval '5 minutes');
        IF NEW.claimed_by = '' THEN
            NEW.claimed_by := NEW.actor;
        END IF;
    ELSIF NEW.status IN ('completed', 'failed', 'rejected') THEN
        IF TG_OP = 'UPDATE' OR NEW.finished_at IS NULL THEN
            NEW.finished_at := clock_timestamp();
        END IF;
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_stamp_v2() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_20_stamp BEFORE INSERT OR UPDATE ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_task_stamp_v2()

-- backwards
DROP TRIGGER audit_task_20_stamp ON audit_task
-- next
DROP FUNCTION audit_task_stamp_v2()
