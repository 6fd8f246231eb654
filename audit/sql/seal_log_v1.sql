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
    computed := sha256(decode('00', 'hex') || convert_to(concat_ws(E'\n',
        'audit.executionlog v1',
        'id ' || coalesce(length(NEW.id::text) || ':' || NEW.id::text, '-'),
        'task_id ' || coalesce(length(NEW.task_id::text) || ':' || NEW.task_id::text, '-'),
        'at ' || coalesce(length(round(extract(epoch FROM NEW.at) * 1000000)::text) || ':' || round(extract(epoch FROM NEW.at) * 1000000)::text, '-'),
        'kind ' || coalesce(octet_length(convert_to(NEW.kind, 'UTF8')) || ':' || NEW.kind, '-'),
        'from_status ' || coalesce(octet_length(convert_to(NEW.from_status, 'UTF8')) || ':' || NEW.from_status, '-'),
        'to_status ' || coalesce(octet_length(convert_to(NEW.to_status, 'UTF8')) || ':' || NEW.to_status, '-'),
        'revision ' || coalesce(length(NEW.revision::text) || ':' || NEW.revision::text, '-'),
        'actor ' || coalesce(octet_length(convert_to(NEW.actor, 'UTF8')) || ':' || NEW.actor, '-'),
        'db_role ' || coalesce(octet_length(convert_to(NEW.db_role, 'UTF8')) || ':' || NEW.db_role, '-'),
        'attempt ' || coalesce(length(NEW.attempt::text) || ':' || NEW.attempt::text, '-'),
        'step_number ' || coalesce(length(NEW.step_number::text) || ':' || NEW.step_number::text, '-'),
        'action ' || coalesce(octet_length(convert_to(NEW.action, 'UTF8')) || ':' || NEW.action, '-'),
        'duration_ms ' || coalesce(length(NEW.duration_ms::text) || ':' || NEW.duration_ms::text, '-'),
        'output_summary ' || coalesce(octet_length(convert_to(NEW.output_summary, 'UTF8')) || ':' || NEW.output_summary, '-'),
        'detail ' || coalesce(octet_length(convert_to(NEW.detail::text, 'UTF8')) || ':' || NEW.detail::text, '-'),
        'row_version ' || coalesce(length(NEW.row_version::text) || ':' || NEW.row_version::text, '-'),
        'salt ' || coalesce(length(encode(NEW.salt, 'hex')) || ':' || encode(NEW.salt, 'hex'), '-'),
        'xid ' || coalesce(length(NEW.xid::text) || ':' || NEW.xid::text, '-'),
        ''), 'UTF8'));
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
