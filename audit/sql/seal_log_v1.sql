-- Seals every row of the execution log when it is written, by the rules of seal_task_v1.sql. ENABLE ALWAYS.

-- forwards
CREATE FUNCTION audit_log_seal_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    replicated CONSTANT boolean := current_setting('session_replication_role') = 'replica';
    computed bytea;
BEGIN
    IF NOT replicated THEN
        NEW.row_version := 1;
        NEW.salt := uuid_send(gen_random_uuid());
        NEW.xid := pg_current_xact_id();
    END IF;
    computed := sha256('\x00'::bytea || convert_to('audit.executionlog v1' || E'\n'
        || 'id ' || coalesce(length(NEW.id::text) || ':' || NEW.id::text, '-') || E'\n'
        || 'task_id ' || coalesce(length(NEW.task_id::text) || ':' || NEW.task_id::text, '-') || E'\n'
        || 'at ' || coalesce(length((extract(epoch FROM NEW.at) * 1000000)::bigint::text) || ':' || (extract(epoch FROM NEW.at) * 1000000)::bigint::text, '-') || E'\n'
        || 'kind ' || coalesce(octet_length(convert_to(NEW.kind, 'UTF8')) || ':' || NEW.kind, '-') || E'\n'
        || 'from_status ' || coalesce(octet_length(convert_to(NEW.from_status, 'UTF8')) || ':' || NEW.from_status, '-') || E'\n'
        || 'to_status ' || coalesce(octet_length(convert_to(NEW.to_status, 'UTF8')) || ':' || NEW.to_status, '-') || E'\n'
        || 'revision ' || coalesce(length(NEW.revision::text) || ':' || NEW.revision::text, '-') || E'\n'
        || 'actor ' || coalesce(octet_length(convert_to(NEW.actor, 'UTF8')) || ':' || NEW.actor, '-') || E'\n'
        || 'db_role ' || coalesce(octet_length(convert_to(NEW.db_role, 'UTF8')) || ':' || NEW.db_role, '-') || E'\n'
        || 'attempt ' || coalesce(length(NEW.attempt::text) || ':' || NEW.attempt::text, '-') || E'\n'
        || 'step_number ' || coalesce(length(NEW.step_number::text) || ':' || NEW.step_number::text, '-') || E'\n'
        || 'action ' || coalesce(octet_length(convert_to(NEW.action, 'UTF8')) || ':' || NEW.action, '-') || E'\n'
        || 'duration_ms ' || coalesce(length(NEW.duration_ms::text) || ':' || NEW.duration_ms::text, '-') || E'\n'
        || 'output_summary ' || coalesce(octet_length(convert_to(NEW.output_summary, 'UTF8')) || ':' || NEW.output_summary, '-') || E'\n'
        || 'detail ' || coalesce(octet_length(convert_to(NEW.detail::text, 'UTF8')) || ':' || NEW.detail::text, '-') || E'\n'
        || 'row_version ' || coalesce(length(NEW.row_version::text) || ':' || NEW.row_version::text, '-') || E'\n'
        || 'salt ' || coalesce(length(encode(NEW.salt, 'hex')) || ':' || encode(NEW.salt, 'hex'), '-') || E'\n'
        || 'xid ' || coalesce(length(NEW.xid::text) || ':' || NEW.xid::text, '-') || E'\n'
        , 'UTF8'));
    IF NOT replicated THEN
        NEW.row_hash := computed;
    ELSIF NEW.row_hash IS DISTINCT FROM computed THEN
        RAISE EXCEPTION 'audit_executionlog %: the row hash that comes with the row is not the row''s', NEW.id
            USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                HINT = 'A replica or a restore brings rows as they were sealed; let an ordinary session seal new ones.';
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_log_seal_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_executionlog_90_seal BEFORE INSERT ON audit_executionlog
    FOR EACH ROW EXECUTE FUNCTION audit_log_seal_v1()
-- next
ALTER TABLE audit_executionlog ENABLE ALWAYS TRIGGER audit_executionlog_90_seal

-- backwards
DROP TRIGGER audit_executionlog_90_seal ON audit_executionlog
-- next
DROP FUNCTION audit_log_seal_v1()
