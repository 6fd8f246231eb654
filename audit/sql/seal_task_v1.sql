-- Seals a task at the moment it finishes: salt, version, transaction id and the hash of its canonical bytes
-- (docs/ledger-format.md; the Python twin is audit/ledger/canonical.py). Must be the last BEFORE trigger: what a later
-- one changed would not be what was hashed. ENABLE ALWAYS; a replica session brings the hash and has it checked.
-- The canonical form is for ever. A new column means version 2, in a new file.
--
-- Three spellings matter. concat_ws, because || copies all that came before once a column: 20 MB of outcome took
-- 1.6 GB of memory. decode('00', 'hex'), because where standard_conforming_strings is off '\x00' is another string.
-- round(), because an infinite moment cannot become a bigint, and it is for the CHECK to refuse it.

-- forwards
CREATE FUNCTION audit_task_seal_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    replicated CONSTANT boolean := current_setting('session_replication_role') = 'replica';
    computed bytea;
BEGIN
    IF NEW.status NOT IN ('completed', 'failed', 'rejected') THEN
        RETURN NEW;
    END IF;
    IF NOT replicated THEN
        NEW.row_version := 1;
        NEW.salt := uuid_send(gen_random_uuid());
        NEW.finished_xid := pg_current_xact_id();
    END IF;
    computed := sha256(decode('00', 'hex') || convert_to(concat_ws(E'\n',
        'audit.task v1',
        'id ' || coalesce(length(NEW.id::text) || ':' || NEW.id::text, '-'),
        'action ' || coalesce(octet_length(convert_to(NEW.action, 'UTF8')) || ':' || NEW.action, '-'),
        'summary ' || coalesce(octet_length(convert_to(NEW.summary, 'UTF8')) || ':' || NEW.summary, '-'),
        'status ' || coalesce(octet_length(convert_to(NEW.status, 'UTF8')) || ':' || NEW.status, '-'),
        'priority ' || coalesce(length(NEW.priority::text) || ':' || NEW.priority::text, '-'),
        'services_touched ' || coalesce(octet_length(convert_to(to_json(NEW.services_touched)::text, 'UTF8')) || ':' || to_json(NEW.services_touched)::text, '-'),
        'plan ' || coalesce(octet_length(convert_to(NEW.plan::text, 'UTF8')) || ':' || NEW.plan::text, '-'),
        'estimated_resources ' || coalesce(octet_length(convert_to(NEW.estimated_resources::text, 'UTF8')) || ':' || NEW.estimated_resources::text, '-'),
        'resources_used ' || coalesce(octet_length(convert_to(NEW.resources_used::text, 'UTF8')) || ':' || NEW.resources_used::text, '-'),
        'outcome ' || coalesce(octet_length(convert_to(NEW.outcome::text, 'UTF8')) || ':' || NEW.outcome::text, '-'),
        'suggestions ' || coalesce(octet_length(convert_to(NEW.suggestions::text, 'UTF8')) || ':' || NEW.suggestions::text, '-'),
        'requested_by ' || coalesce(octet_length(convert_to(NEW.requested_by, 'UTF8')) || ':' || NEW.requested_by, '-'),
        'decided_by ' || coalesce(octet_length(convert_to(NEW.decided_by, 'UTF8')) || ':' || NEW.decided_by, '-'),
        'parent ' || coalesce(length(NEW.parent::text) || ':' || NEW.parent::text, '-'),
        'correlation_id ' || coalesce(octet_length(convert_to(NEW.correlation_id, 'UTF8')) || ':' || NEW.correlation_id, '-'),
        'created_at ' || coalesce(length(round(extract(epoch FROM NEW.created_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.created_at) * 1000000)::text, '-'),
        'recorded_at ' || coalesce(length(round(extract(epoch FROM NEW.recorded_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.recorded_at) * 1000000)::text, '-'),
        'available_at ' || coalesce(length(round(extract(epoch FROM NEW.available_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.available_at) * 1000000)::text, '-'),
        'decided_at ' || coalesce(length(round(extract(epoch FROM NEW.decided_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.decided_at) * 1000000)::text, '-'),
        'started_at ' || coalesce(length(round(extract(epoch FROM NEW.started_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.started_at) * 1000000)::text, '-'),
        'finished_at ' || coalesce(length(round(extract(epoch FROM NEW.finished_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.finished_at) * 1000000)::text, '-'),
        'claimed_by ' || coalesce(octet_length(convert_to(NEW.claimed_by, 'UTF8')) || ':' || NEW.claimed_by, '-'),
        'claim_token ' || coalesce(length(NEW.claim_token::text) || ':' || NEW.claim_token::text, '-'),
        'lease_expires_at ' || coalesce(length(round(extract(epoch FROM NEW.lease_expires_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.lease_expires_at) * 1000000)::text, '-'),
        'attempt ' || coalesce(length(NEW.attempt::text) || ':' || NEW.attempt::text, '-'),
        'expiries ' || coalesce(length(NEW.expiries::text) || ':' || NEW.expiries::text, '-'),
        'on_expiry ' || coalesce(octet_length(convert_to(NEW.on_expiry, 'UTF8')) || ':' || NEW.on_expiry, '-'),
        'cancel_requested_at ' || coalesce(length(round(extract(epoch FROM NEW.cancel_requested_at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.cancel_requested_at) * 1000000)::text, '-'),
        'actor ' || coalesce(octet_length(convert_to(NEW.actor, 'UTF8')) || ':' || NEW.actor, '-'),
        'revision ' || coalesce(length(NEW.revision::text) || ':' || NEW.revision::text, '-'),
        'origin ' || coalesce(octet_length(convert_to(NEW.origin::text, 'UTF8')) || ':' || NEW.origin::text, '-'),
        'row_version ' || coalesce(length(NEW.row_version::text) || ':' || NEW.row_version::text, '-'),
        'salt ' || coalesce(length(encode(NEW.salt, 'hex')) || ':' || encode(NEW.salt, 'hex'), '-'),
        'finished_xid ' || coalesce(length(NEW.finished_xid::text) || ':' || NEW.finished_xid::text, '-'),
        ''), 'UTF8'));
    IF NOT replicated THEN
        NEW.row_hash := computed;
    ELSIF NEW.row_hash IS DISTINCT FROM computed THEN
        RAISE EXCEPTION 'audit_task %: the row hash that comes with the row is not the row''s', NEW.id
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'A replica or a restore brings rows as they were sealed; let an ordinary session seal new ones.';
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_task_seal_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_task_90_seal BEFORE INSERT OR UPDATE ON audit_task
    FOR EACH ROW EXECUTE FUNCTION audit_task_seal_v1()
-- next
ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_90_seal

-- backwards
DROP TRIGGER audit_task_90_seal ON audit_task
-- next
DROP FUNCTION audit_task_seal_v1()
