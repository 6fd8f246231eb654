-- Stamps an event with the moment and the session user. Ordinary: a replica or a restore keeps the stamps of its
-- source.

-- forwards
CREATE FUNCTION audit_event_write_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    NEW.emitted_at := clock_timestamp();
    NEW.db_role := session_user;
    IF NEW.emitted_by = '' THEN
        NEW.emitted_by := 'db:' || session_user;
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_event_write_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_event_10_write BEFORE INSERT ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_event_write_v1()

-- backwards
DROP TRIGGER audit_event_10_write ON audit_event
-- next
DROP FUNCTION audit_event_write_v1()
