-- Decides which changes a task may undergo, and stamps the row: one function, before every INSERT and UPDATE. It
-- refuses a change of a finished task, a step that the status rules do not have, a change of who requested it and when,
-- and a lower revision. It stamps actor, revision, moments, durations, claim and transaction. Then it checks the
-- resulting row. A CHECK would be prepared again by every statement, at ten times the cost (measured), and nothing else
-- needs it.
--
-- ENABLE ALWAYS: it binds replica sessions too. There it refuses and checks, and stamps nothing, so that a replica or a
-- restore keeps the stamps of its source. It looks only at its own row, so that a replica's initial copy passes. Each
-- moment is clock_timestamp(): now() stands still inside a transaction, and every duration there would be zero.

-- forwards
CREATE FUNCTION audit_task_write_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    stamps CONSTANT boolean := current_setting('session_replication_role') <> 'replica';
    moment CONSTANT timestamptz := clock_timestamp();
    ends CONSTANT boolean := NEW.status IN ('completed', 'failed', 'rejected');
    named boolean;
    broken text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.status IN ('completed', 'failed', 'rejected') THEN
            RAISE EXCEPTION 'audit_task %: a finished task never changes (status %)', OLD.id, OLD.status
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Add a note or a suggestion to its execution log, or request a new task with this one as parent.';
        END IF;
        IF NEW.status <> OLD.status AND NOT (CASE OLD.status
            WHEN 'pending' THEN NEW.status IN ('approved', 'rejected')
            WHEN 'approved' THEN NEW.status IN ('executing', 'paused', 'rejected')
            WHEN 'executing' THEN NEW.status IN ('completed', 'failed', 'paused', 'approved')
            WHEN 'paused' THEN NEW.status IN ('approved', 'rejected', 'failed')
            ELSE false
        END) THEN
            RAISE EXCEPTION 'audit_task %: a task that is % cannot become %', OLD.id, OLD.status, NEW.status
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Steps: pending to approved, rejected; approved to executing, paused, rejected; '
                        'executing to completed, failed, paused, approved; paused to approved, rejected, failed.';
        END IF;
        IF NEW.id <> OLD.id OR NEW.created_at <> OLD.created_at OR NEW.recorded_at <> OLD.recorded_at
            OR NEW.requested_by <> OLD.requested_by OR NEW.origin::text IS DISTINCT FROM OLD.origin::text
        THEN
            RAISE EXCEPTION
                'audit_task %: id, created_at, recorded_at, requested_by and origin never change (status %)',
                OLD.id, OLD.status
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'Request a new task with this one as parent.';
        END IF;
        IF NEW.revision < OLD.revision THEN
            RAISE EXCEPTION 'audit_task %: revision cannot go back from % to % (status %)',
                OLD.id, OLD.revision, NEW.revision, OLD.status
                USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    HINT = 'The row changed since it was read; read it again and decide again.';
        END IF;
        IF NEW.approve_before IS NOT NULL OR OLD.approve_before IS NOT NULL THEN
            -- The statement's moment, so that a verb that asks for it in its WHERE is never refused here.
            IF NEW.approve_before IS DISTINCT FROM OLD.approve_before
                AND (OLD.status <> 'pending' OR (stamps AND OLD.approve_before <= statement_timestamp()))
            THEN
                RAISE EXCEPTION 'audit_task %: approve_before changes only while the task is pending and in time (status %)',
                    OLD.id, OLD.status
                    USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                        HINT = 'Request the work anew, with this one as parent.';
            END IF;
            IF stamps AND OLD.status = 'pending' AND NEW.status = 'approved'
                AND NEW.approve_before <= statement_timestamp()
            THEN
                RAISE EXCEPTION 'audit_task %: the time to approve it ended at %', OLD.id, NEW.approve_before
                    USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                        HINT = 'Request the work anew, with this one as parent.';
            END IF;
        END IF;
        NEW.status_was := OLD.status;
        IF stamps THEN
            -- A statement of the application raises the revision by one and names who acts (actor_named_v1.sql marks the
            -- name); any other appears under its role, also as who decided.
            named := (starts_with(NEW.actor, chr(1)) AND NEW.revision = OLD.revision + 1
                AND ltrim(NEW.actor, chr(1)) <> '') IS TRUE;
            IF named THEN
                NEW.actor := ltrim(NEW.actor, chr(1));
            ELSE
                NEW.revision := OLD.revision + 1;
                NEW.actor := 'db:' || session_user;
            END IF;
            IF (NEW.started_at, NEW.status_since, NEW.executing_ms, NEW.paused_ms)
                IS DISTINCT FROM (OLD.started_at, OLD.status_since, OLD.executing_ms, OLD.paused_ms)
            THEN
                NEW.started_at := OLD.started_at;
                NEW.status_since := OLD.status_since;
                NEW.executing_ms := OLD.executing_ms;
                NEW.paused_ms := OLD.paused_ms;
            END IF;
            IF NEW.status <> OLD.status THEN
                NEW.status_since := moment;
                IF OLD.status = 'pending' THEN
                    NEW.decided_at := moment;
                    IF NOT named OR NEW.decided_by = OLD.decided_by THEN
                        NEW.decided_by := NEW.actor;
                    END IF;
                ELSIF OLD.status = 'executing' THEN
                    NEW.executing_ms := OLD.executing_ms
                        + greatest(extract(epoch FROM moment - OLD.status_since) * 1000, 0)::bigint;
                    NEW.lease_expires_at := NULL;
                    IF NEW.status IN ('approved', 'paused') THEN
                        NEW.claim_token := NULL;
                        NEW.claimed_by := '';
                    END IF;
                ELSIF OLD.status = 'paused' THEN
                    NEW.paused_ms := OLD.paused_ms
                        + greatest(extract(epoch FROM moment - OLD.status_since) * 1000, 0)::bigint;
                END IF;
                IF NEW.status = 'executing' THEN
                    NEW.started_at := coalesce(OLD.started_at, moment);
                ELSIF ends THEN
                    NEW.finished_at := moment;
                END IF;
            END IF;
        END IF;
    ELSIF stamps THEN
        NEW.revision := 1;
        NEW.recorded_at := moment;
        NEW.status_was := NULL;
        NEW.status_since := moment;
        NEW.available_at := coalesce(NEW.available_at, NEW.created_at);
        NEW.actor := coalesce(nullif(ltrim(NEW.actor, chr(1)), ''), 'db:' || session_user);
        IF ends AND NEW.finished_at IS NULL THEN
            NEW.finished_at := moment;
        END IF;
        -- Of work that was done elsewhere, the span between its moments, unless it says better.
        NEW.executing_ms := coalesce(NEW.executing_ms, CASE
            WHEN ends AND isfinite(NEW.started_at) AND isfinite(NEW.finished_at) THEN
            greatest(extract(epoch FROM NEW.finished_at - NEW.started_at) * 1000, 0)::bigint END, 0);
        NEW.paused_ms := coalesce(NEW.paused_ms, 0);
    END IF;
    IF stamps THEN
        IF ends THEN
            NEW.row_version := 1;
            NEW.finished_xid := pg_current_xact_id();
        ELSIF NEW.status = 'executing' AND OLD.status IS DISTINCT FROM 'executing'
            AND (NEW.claim_token IS NULL OR NEW.lease_expires_at IS NULL OR NEW.claimed_by = '')
        THEN
            -- Executing without a lease would never be found again: raw SQL gets one, which recovery can end.
            NEW.claim_token := coalesce(NEW.claim_token, gen_random_uuid());
            NEW.lease_expires_at := coalesce(NEW.lease_expires_at, moment + interval '5 minutes');
            NEW.claimed_by := coalesce(nullif(NEW.claimed_by, ''), NEW.actor);
        END IF;
    END IF;
    broken := CASE
        WHEN NEW.status NOT IN ('pending', 'approved', 'executing', 'paused', 'completed', 'failed', 'rejected')
            THEN 'status_known|status is none that a task can have'
        WHEN NEW.action = '' THEN 'action_given|action is empty'
        WHEN NEW.priority NOT BETWEEN 1 AND 5 THEN 'priority_range|priority is not between 1 (highest) and 5'
        WHEN NEW.on_expiry NOT IN ('requeue', 'fail') THEN 'on_expiry_known|on_expiry is neither requeue nor fail'
        -- So that order by id is order by time, and partitions by RANGE(id) stay possible.
        WHEN get_byte(uuid_send(NEW.id), 6) & 240 <> 112 THEN 'id_is_uuid7|id is no UUIDv7'
        WHEN least(NEW.attempt, NEW.expiries, NEW.failures, NEW.executing_ms, NEW.paused_ms) < 0 OR NEW.revision < 1
            THEN 'counts_positive|a count is below zero'
        -- A length is read without the text. Names are indexed, and everything is sealed and shown.
        WHEN octet_length(NEW.summary) > 65536
            OR greatest(octet_length(NEW.action), octet_length(NEW.requested_by), octet_length(NEW.decided_by),
                octet_length(NEW.correlation_id), octet_length(NEW.claimed_by), octet_length(NEW.actor),
                octet_length(NEW.status_was)) > 4096
            THEN 'texts_bounded|a text is too long: summary has at most 65536 bytes, a name 4096'
        -- CASE, because array_position cannot look into nested arrays.
        WHEN CASE WHEN array_ndims(NEW.services_touched) = 1
            THEN array_lower(NEW.services_touched, 1) <> 1 OR array_position(NEW.services_touched, NULL) IS NOT NULL
            ELSE cardinality(NEW.services_touched) <> 0 END
            THEN 'services_flat|services_touched is not one list of names'
        WHEN NEW.status = 'executing' AND (NEW.claim_token IS NULL OR NEW.lease_expires_at IS NULL)
            THEN 'executing_leased|executing work has a claim token and a lease'
        WHEN CASE WHEN ends
            THEN NEW.finished_at IS NULL OR NEW.finished_xid IS NULL OR NEW.row_version IS DISTINCT FROM 1
            ELSE NEW.finished_at IS NOT NULL OR NEW.finished_xid IS NOT NULL OR NEW.row_version IS NOT NULL END
            THEN 'finished_whole|finished_at, finished_xid and row_version belong to a finished task, all three'
        WHEN least(NEW.created_at, NEW.recorded_at, NEW.available_at, NEW.approve_before, NEW.decided_at, NEW.started_at,
                NEW.finished_at, NEW.status_since, NEW.lease_expires_at, NEW.cancel_requested_at)
                < '0001-01-02 00:00:00+00'
            OR greatest(NEW.created_at, NEW.recorded_at, NEW.available_at, NEW.approve_before, NEW.decided_at,
                NEW.started_at, NEW.finished_at, NEW.status_since, NEW.lease_expires_at, NEW.cancel_requested_at)
                >= '9999-12-31 00:00:00+00'
            THEN 'moments_readable|a moment lies outside of the years 1 to 9999'
        -- A JSON null beside an SQL NULL would be two ways to say nothing, one of them lost in Python.
        WHEN 'null'::jsonb IN (NEW.plan, NEW.work_plan, NEW.estimated_resources, NEW.resources_used, NEW.outcome,
            NEW.suggestions, NEW.origin)
            THEN 'no_json_null|a document is the JSON null; store an SQL NULL'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'audit_task %: % (audit_task_%)', NEW.id, split_part(broken, '|', 2), split_part(broken, '|', 1)
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                CONSTRAINT = 'audit_task_' || split_part(broken, '|', 1);
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_write_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_10_write BEFORE INSERT OR UPDATE ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_task_write_v1()
-- next
ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_10_write

-- backwards
DROP TRIGGER audit_task_10_write ON audit_task
-- next
DROP FUNCTION audit_task_write_v1()
